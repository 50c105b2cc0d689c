"""The command line: `python -m scripts.mutants [NAME ...]`, from the root of the repository."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import scripts.mutants
from scripts.mutants.table import ROOT, Mutant, choose, read
from scripts.mutants.trial import KILLED, Outcome, attempt, copy, digest, run

RESULTS = ROOT / "build" / "mutants.json"
LEAST = 0.95  # the share of mutants that the tests must detect


def main(arguments: list[str]) -> int:
    """Try mutants; return 0 if enough of them are killed."""
    options = _parser().parse_args(arguments)
    mutants = choose(read(), options.names)
    known = {} if options.again else _load()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        todo = _todo(mutants, known, all_tests=options.all_tests)
        if todo:
            tree = copy(Path(folder))
            _check_clean(tree, todo, all_tests=options.all_tests)
        for name, mutant in todo.items():
            known[name] = attempt(mutant, tree, all_tests=options.all_tests)
            print(_line(name, known[name]), flush=True)
            _save(known)
    return _report({name: known[name] for name in mutants})


def _todo(
    mutants: dict[str, Mutant], known: dict[str, Outcome], *, all_tests: bool
) -> dict[str, Mutant]:
    """Return the mutants without a known outcome."""

    def settled(name: str, mutant: Mutant) -> bool:
        before = known.get(name)
        same = before is not None and before.digest == digest(mutant)
        return same and (before.status in KILLED or not all_tests)

    return {name: mutant for name, mutant in mutants.items() if not settled(name, mutant)}


def _check_clean(tree: Path, mutants: dict[str, Mutant], *, all_tests: bool) -> None:
    """Raise unless the tests pass without a mutant; otherwise they would kill every mutant."""
    tests = {test for mutant in mutants.values() for test in mutant.tests}
    status, failed = run(tree, () if all_tests else tuple(sorted(tests)), None)
    if status != "survived":
        raise SystemExit(f"tests: expected them to pass without a mutant, got {status}: {failed}")


def _report(outcomes: dict[str, Outcome]) -> int:
    counts = Counter(outcome.status for outcome in outcomes.values())
    killed = sum(counts[status] for status in KILLED)
    for name, outcome in outcomes.items():
        if outcome.status not in KILLED:
            print(_line(name, outcome))
    words = ", ".join(f"{status} {count}" for status, count in sorted(counts.items()))
    print(f"{killed} of {len(outcomes)} mutants are killed ({words})")
    return int(killed < LEAST * len(outcomes))


def _line(name: str, outcome: Outcome) -> str:
    return f"{outcome.status:<10}{outcome.seconds:>6.1f} s  {name:<40} {outcome.by}"


def _load() -> dict[str, Outcome]:
    if not RESULTS.exists():
        return {}
    return {name: Outcome(*row) for name, row in json.loads(RESULTS.read_text("utf-8")).items()}


def _save(outcomes: dict[str, Outcome]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(outcomes, indent=1), encoding="utf-8")
    part.replace(RESULTS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m scripts.mutants",
        description=scripts.mutants.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants or areas; default all")
    parser.add_argument(
        "--all-tests", action="store_true", help="for survivors, run the whole default suite"
    )
    parser.add_argument(
        "--again", action="store_true", help="also try mutants again that have a result"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
