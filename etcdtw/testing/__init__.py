"""What programs around etcdtw may test themselves with; ``docs/guide/simulation.md`` is the guide.

* ``time``, ``disk``, ``network``, ``streams``, ``worker``: simulated twins of what a member takes.
* ``cluster`` and ``world``: whole clusters on them, by one seed, and faults.
* ``checkers``, ``linearizability``: what must hold of a cluster, and of any history.
* ``backend_conformance``, ``bootstrap_conformance``, ``filesystem_conformance``: tests for whoever
  brings such a part of his own.
"""
