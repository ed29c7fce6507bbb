"""The command line by the rules of Go's flag package."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.config.arguments import Arguments, parse_arguments
from etcdtw.config.flags import FLAGS


def reasons(found: Arguments) -> list[str]:
    return [problem.reason for problem in found.problems]


class FormTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """One dash or two, value after a space or an equals sign."""
        for words in (["--name", "x"], ["--name=x"], ["-name", "x"], ["-name=x"]):
            self.assertEqual(parse_arguments(words).values["name"].value, "x")

    def test_every_flag_with_one_dash(self) -> None:
        """ST4: every flag may be written with a single dash and an equals sign."""
        for name, flag in FLAGS.items():
            found = parse_arguments([f"-{name}={flag.default}"])
            self.assertEqual(reasons(found), [], name)

    def test_switches(self) -> None:
        """A switch stands alone and never takes the next word."""
        found = parse_arguments(["--enable-v2", "--pre-vote=false", "--enable-v2", "false"])
        self.assertIs(found.values["enable-v2"].value, True)
        self.assertIs(found.values["pre-vote"].value, False)
        self.assertEqual(found.strays, ("false",))

    def test_mesh(self) -> None:
        """--auto-tls takes one word more than other switches, and refuses the rest as they do."""
        for name in ("auto-tls", "peer-auto-tls"):
            for word, value in (("", True), ("=true", True), ("=f", False), ("=mesh", "mesh")):
                found = parse_arguments([f"--{name}{word}"])
                self.assertEqual(found.values[name].value, value)
            for text in ("Mesh", "x"):
                self.assertEqual(
                    reasons(parse_arguments([f"--{name}={text}"])),
                    [f'invalid boolean value "{text}" for -{name}: parse error'],
                )

    def test_later_wins(self) -> None:
        """A flag that is given twice has its last value."""
        self.assertEqual(parse_arguments(["--name=a", "--name=b"]).values["name"].value, "b")

    def test_end_of_flags(self) -> None:
        """``--`` and any word without a dash end the flags."""
        for words in (["--", "--name=x"], ["stray", "--name=x"], ["-", "--name=x"]):
            found = parse_arguments(words)
            self.assertEqual(found.values, {})
            self.assertTrue(found.strays)

    def test_value_with_dash(self) -> None:
        """The word after a flag is its value even if it looks like a flag."""
        self.assertEqual(
            parse_arguments(["--name", "--data-dir"]).values["name"].value, "--data-dir"
        )

    def test_empty_url_list(self) -> None:
        """An empty list of URLs leaves the default, or what was given before, in place, and counts
        as given."""
        name, url = "listen-peer-urls", "http://10.0.0.1:1"
        for words, urls in (
            ([f"--{name}="], ("http://localhost:2380",)),
            ([f"--{name}={url}", f"--{name}="], (url,)),
        ):
            found = parse_arguments(words).values[name]
            self.assertEqual((found.value, found.is_set), (urls, True))

    def test_help(self) -> None:
        """``-h`` and ``--help`` end the reading."""
        for word in ("-h", "--help"):
            self.assertTrue(parse_arguments([word, "--nope"]).wants_help)


class RefusalTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Go's complaints are Go's, with exit code 2."""
        for words, text in {
            ("--nope",): "flag provided but not defined: -nope",
            ("--name",): "flag needs an argument: -name",
            ("---name", "x"): "bad flag syntax: ---name",
            ("--=x",): "bad flag syntax: --=x",
            ("--heartbeat-interval=abc",): (
                'invalid value "abc" for flag -heartbeat-interval: parse error'
            ),
            ("--heartbeat-interval=99999999999999999999",): (
                'invalid value "99999999999999999999" for flag -heartbeat-interval: '
                "value out of range"
            ),
            ("--enable-v2=maybe",): 'invalid boolean value "maybe" for -enable-v2: parse error',
            ("--grpc-keepalive-interval", "5"): (
                'invalid value "5" for flag -grpc-keepalive-interval: parse error'
            ),
            ("--cors", "x"): (
                'invalid value "x" for flag -cors: '
                "URL scheme must be http, https, unix, or unixs: x"
            ),
        }.items():
            found = parse_arguments(words)
            self.assertEqual(reasons(found), [text])
            self.assertEqual(found.problems[0].exit_code, 2)
            self.assertEqual(found.problems[0].source, "command line")

    def test_nearest(self) -> None:
        """A mistyped flag's refusal has the nearest one, if any is near."""
        for word, hint in {
            "--nmae": "the nearest flag is 'name': use --name",
            "-listen-clients-urls": (
                "the nearest flag is 'listen-client-urls': use --listen-client-urls"
            ),
            "--verison": "the nearest flag is 'version': use --version",
            "--qqq": "",
        }.items():
            (problem,) = parse_arguments([word]).problems
            self.assertEqual(problem.hint, hint)

    def test_all_at_once(self) -> None:
        """Every problem of a command line is found, the first first."""
        found = parse_arguments(["--nope", "x", "--max-wals=y", "--name"])
        self.assertEqual(
            reasons(found),
            [
                "flag provided but not defined: -nope",
                'invalid value "y" for flag -max-wals: parse error',
                "flag needs an argument: -name",
            ],
        )


class OldWordTests(SynchronousTestCase):
    def test_ignored_words(self) -> None:
        """Words of older releases are accepted with a notice; they take no following word."""
        found = parse_arguments(["--vv", "--peer-heartbeat-interval=5", "--snapshot", "stray"])
        self.assertEqual(reasons(found), [])
        self.assertEqual(len(found.notices), 3)
        self.assertEqual(found.strays, ("stray",))

    def test_renamed(self) -> None:
        """``--log-output`` of etcd 3.4 sets ``--log-outputs``, with a notice."""
        found = parse_arguments(["--log-output=stdout", "--log-package-levels", "raft=INFO"])
        self.assertEqual(found.values["log-outputs"].value, ("stdout",))
        self.assertEqual(found.values["log-package-levels"].value, "raft=INFO")
        self.assertEqual(len(found.notices), 1)
        self.assertEqual(found.strays, ())
