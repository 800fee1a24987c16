# The tree of lib.sh, drawn with what its links carried. Sourced after lib.sh.
# Promises: reads counters, changes nothing. Needs `packets_are_datagrams`. Is not a
# verdict: it returns the figures as they are.
# shellcheck shell=bash

# draw_tree [HOST=LABEL...]: stream datagrams on each link, beside what unicast to each
# host that got some would have carried.
draw_tree() {
    local h fed2=0 fed3=0 all=0 each=0 unicast=0
    local -A label=() got=() end=([a3]="'" [b3]="'")
    for h in "$@"; do label[${h%%=*}]=${h#*=}; done
    for h in r1 r2 r3 a1 a2 a3 b1 b2 b3; do
        got[$h]=$(counted "$h" stream)
        all=$((all + got[$h]))
    done
    for h in a1 a2 a3; do fed2=$((fed2 + got[$h])); done
    for h in b1 b2 b3; do fed3=$((fed3 + got[$h])); done
    unicast=$((3 * (fed2 + fed3)))
    # row LABEL CARRIED UNICAST
    row() { printf '  %-30s %9d %22d\n' "$@"; }
    printf '\n  %-30s %9s %22s\n\n' 'stream datagrams on each link' carried 'unicast would carry'
    printf '  sender\n'
    row "  |" "${got[r1]}" $((fed2 + fed3))
    printf '  relay 1\n'
    row "  |-- relay 2" "${got[r2]}" "$fed2"
    for h in a1 a2 a3; do row "  |     ${end[$h]:-|}-- $h ${label[$h]:-}" "${got[$h]}" "${got[$h]}"; done
    row "  '-- relay 3" "${got[r3]}" "$fed3"
    for h in b1 b2 b3; do row "        ${end[$h]:-|}-- $h ${label[$h]:-}" "${got[$h]}" "${got[$h]}"; done
    row "all links" "$all" "$unicast"
}
