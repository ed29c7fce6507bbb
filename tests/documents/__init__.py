"""The clustering guide, in English and in Chinese, and the gateway page, executable.

``scenarios/*.yaml`` has their commands and what they promise, row by row; ``rows.yaml`` the rows.
``python -m tests.documents --server etcdtw --server etcd-3.5.1`` plays them against one server
after another and prints the scoreboard; ``test_documents`` plays them in the tests.
"""
