#!/usr/bin/env bash
# The direction of dependence in docs/architecture.md, held by reading the #include <jpt/...> lines.
# Exit 1 and one line for each include that points up.
set -euo pipefail
cd "${JPT_SOURCE_DIR:-$(dirname "$0")/..}"

declare -A allowed=(
    [base]="error base pool yaml"
    [tensor]="error base tensor"
    [format]="error base tensor format"
    [token]="error base token"
    [backend]="error base pool tensor select backend"
    [model]="error base pool tensor format token select backend model encoder"
    [decode]="error base token select model metric decode"
    [meter]="error base meter"
    [metric]="error base metric stats mauve"
    [sandbox]="error base sandbox"
    [task]="error base yaml metric stats mauve sandbox dataset task"
    [store]="error base store"
    [import]="error base meter metric store import"
    [run]="error base yaml token select model encoder evaluate decode meter metric stats mauve task store run"
    [report]="error base metric stats store report"
)
bad=0
for module in "${!allowed[@]}"; do
    while IFS=: read -r file line header; do
        case " ${allowed[$module]} " in
        *" $header "*) ;;
        *) echo "$file:$line: module '$module' may not include <jpt/$header.h>"; bad=1 ;;
        esac
    done < <(grep -rnoE '#include <jpt/[a-z0-9_]+\.h>' "src/$module" | sed -E 's/#include <jpt\/([a-z0-9_]+)\.h>/\1/')
    # a module's own headers only by plain name; no reaching into another module's folder
    if grep -rnE '#include "\.\./\.\./|#include "(base|tensor|format|token|backend|model|decode|meter|metric|sandbox|task|store|run|report|cli)/' "src/$module"; then
        echo "src/$module: include of another module's private header"; bad=1
    fi
done
[ $bad -eq 0 ] && echo "includes: all point down"
exit $bad
