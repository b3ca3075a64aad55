# shellcheck shell=bash
# What both runners share: one line a test, and the sum at the end. They set `root`, the repository's folder.

passed=0
failed=0

pass() {
    passed=$((passed + 1))
    echo "ok: $1"
}

fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    [ -z "${2:-}" ] || printf '    %s\n' "${2//$'\n'/$'\n    '}"
}

# succeeds NAME COMMAND...
succeeds() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then pass "$name"; else fail "$name" "$out"; fi
}

# refused NAME TEXT COMMAND...: the command fails, and says TEXT.
refused() {
    local name=$1 text=$2 out
    shift 2
    if out=$("$@" 2>&1); then
        fail "$name" "it succeeded: $out"
    elif ! grep -qF -- "$text" <<< "$out"; then
        fail "$name" "expected \"$text\", got: $out"
    else
        pass "$name"
    fi
}

# same NAME EXPECTED GOT
same() {
    if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected: $2"$'\n'"got: $3"; fi
}

# find_program VARIABLE PROGRAM: prints where it is: named by VARIABLE, made by e2e/build, or in PATH.
find_program() {
    local named=${!1:-} made
    [ -z "$named" ] || { echo "$named" && return; }
    # shellcheck disable=SC2154
    for made in "$root/.cache/tools/$2" "$root"/.cache/kubernetes/*/"$2"; do
        [ ! -x "$made" ] || { echo "$made" && return; }
    done
    command -v "$2"
}
