#!/usr/bin/env bash
# Everything that has to hold: formatting, lint, types, layers, the tests. Needs `scripts/setup.sh dev`.
# All steps run, whatever fails; the last line counts the tests (a step that failed counts as one).
# Many tests wait for clocks or for other processes: two at a time take half as long.
set -uo pipefail
cd "$(dirname "$0")/.."

export PATH="$PWD/.venv/bin:$PATH"
mkdir -p build
failed_steps=()

step() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" </dev/null || failed_steps+=("$name")
}

sources=(src tests twisted)
[[ -d bench ]] && compgen -G 'bench/*.py' >/dev/null && sources+=(bench)

step format ruff format --check "${sources[@]}"
step lint ruff check "${sources[@]}"
step types mypy
step layers lint-imports
# The pure rows and the transport hold under Twisted's own test runner as well; properties are tried in
# full below.
step trial env RTGATEWAY_TEST_EXAMPLES=20 python -m twisted.trial -j 2 --temp-directory=build/trial \
  --reporter=text tests.config tests.core tests.wire tests.net tests.observe

printf '\n== pytest\n'
python -m pytest --numprocesses=2 --dist=loadfile </dev/null 2>&1 | tee build/pytest.log
pytest_status=${PIPESTATUS[0]}

summary=$(grep -E '^(=+ )?[0-9]+ (passed|failed|error|skipped|deselected)' build/pytest.log | tail -n 1)
count() { grep -oE "[0-9]+ $1" <<<"$summary" | grep -oE '[0-9]+' || echo 0; }
passed=$(count passed)
failed=$(($(count failed) + $(count error)))
# Without a summary (a crash, a collection that never began) nothing is known to have passed.
if ((pytest_status != 0 && failed == 0)); then
  failed=1
fi

if ((${#failed_steps[@]})); then
  printf '\nfailed before the tests: %s\n' "${failed_steps[*]}"
fi
failed=$((failed + ${#failed_steps[@]}))
echo "$passed passed, $failed failed"
((failed == 0))
