# The page in headless Chromium: 60 configurations on 4 tasks, wide and narrow, light and dark, filtered, clicked, by keyboard,
# printed; no complaint on the console, nothing asked of a network.
set -u
fail() { echo "FAIL: $*"; exit 1; }
PYTHONPATH="$JPT_SOURCE_DIR/tests/support" python3 -c 'import browser,sys; sys.exit(browser.find() is None)' || { echo "skipped: no Chromium here"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
"$JPT_BENCH_STUDY" s.db 60 4 1 6 2 || fail "bench-study"
"$JPT" report s.db -o out --format html >/dev/null || fail "report"
[ "$(stat -c %s out/report.html)" -lt 3000000 ] || fail "the page has $(stat -c %s out/report.html) bytes, more than 3 MB"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$JPT_SOURCE_DIR/tests/support" python3 - "${JPT_SHOTS:-.}" <<'PY' || fail "the page"
import sys
from browser import Browser

shots = sys.argv[1]
shown = "(q) => [...document.querySelectorAll(q)].filter(e => !e.closest('[hidden]') && e.getClientRects().length).length"
with Browser() as b:
    for name, width, height, dark in (("wide-light", 1280, 900, False), ("wide-dark", 1280, 900, True), ("narrow-light", 390, 844, False), ("narrow-dark", 390, 844, True)):
        b.screen(width, height, dark, mobile=width < 500)
        seconds = b.open("out/report.html")
        b.shot(f"{shots}/{name}.png")
        over = b.js("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{name}: {over} px too wide"
        text, page = b.js("getComputedStyle(document.body).color"), b.js("getComputedStyle(document.body).backgroundColor")
        light = lambda c: sum(map(int, c[c.index("(") + 1:-1].split(",")[:3])) > 380
        assert light(text) == dark and light(page) == (not dark), (name, text, page)
        print(f"{name}: loaded in {seconds:.2f} s")
        assert not b.complaints(), b.complaints()
    b.screen(1280, 900)
    b.open("out/report.html")
    count = lambda q: b.js(f"({shown})({q!r})")
    settings = 60 * 2
    # points that ought to be there: a setting without a valid window has none
    points = lambda which: b.js(f"(cells => [...document.querySelectorAll('.per-request .pt')].filter(e => (c => {which})(cells[e.dataset.c])).length)(JSON.parse(document.getElementById('cells').textContent))")
    assert count(".panel") == 4 and count("article") == 4 and count(".per-request .pt") == points("true") > settings * 4 * .9, (count(".panel"), count("article"), count(".per-request .pt"), points("true"))
    # filters
    pick = lambda id, value: b.js(f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('change', {{bubbles: true}})) }})(document.getElementById({id!r}))")
    front = b.js("document.querySelector('.per-request .front').getAttribute('d')")
    pick("fs", "beam")
    assert b.js("document.getElementById('shown').textContent") == f"{3 * 2 * 4} of {settings * 4} settings shown", b.js("document.getElementById('shown').textContent")
    assert count(".per-request .pt") == points("c[2] === 'beam'") > 0
    assert b.js("document.querySelector('.per-request .front').getAttribute('d')") != front, "the front is of what is shown"
    assert b.js("document.querySelector('#legend [data-s=beam]').getAttribute('aria-pressed')") == "true"
    pick("ft", b.js("document.getElementById('ft').options[2].value"))
    assert count(".panel") == 1 and count("article") == 1 and count(".per-request .pt") == points("c[2] === 'beam' && c[0] == document.getElementById('ft').value")
    pick("fm", b.js("document.getElementById('fm').options[1].value"))
    assert count(".per-request .pt") == points("c[2] === 'beam' && c[0] == document.getElementById('ft').value && c[1] == document.getElementById('fm').value") > 0
    b.shot(f"{shots}/filtered.png")
    b.js("document.querySelector('#filters [type=reset]').click(), new Promise(r => setTimeout(r, 50))")
    assert count(".panel") == 4 and b.js("document.querySelector('.per-request .front').getAttribute('d')") == front
    b.js("document.querySelector('#legend [data-s=dola]').click()")
    assert count(".per-request .pt") == points("c[2] === 'dola'") > 0
    b.js("document.querySelector('#legend [data-s=dola]').click()")
    pick("fj", "token")
    assert count(".per-token svg") == 4 and count(".per-request svg") == 0
    pick("fj", "request")
    # pointer: a tip and the same setting lit; click pins it
    b.js("document.querySelector('.per-request svg').scrollIntoView({block: 'center'})")
    x, y, cell = b.js("(r => [r.left + r.width / 2, r.top + r.height / 2, document.querySelector('.per-request .pt:not(.calm)').dataset.c])(document.querySelector('.per-request .pt:not(.calm) .mark').getBoundingClientRect())")
    b.mouse(x, y, click=True)
    assert "J a request" in b.js("document.getElementById('tip').textContent") and not b.js("document.getElementById('tip').hidden")
    assert b.js("document.querySelectorAll('.pt.lit').length") >= 2, "lit in every chart"
    b.shot(f"{shots}/pinned.png")
    b.mouse(5, 5)
    assert b.js("document.querySelectorAll('.pt.lit').length") >= 2, "stays lit when pinned"
    # keyboard
    b.js("document.querySelector('.per-request svg').focus()")
    b.key("Escape")
    assert b.js("document.querySelectorAll('.lit').length") == 0
    b.key("ArrowRight")
    one = b.js("document.getElementById('tip').textContent")
    b.key("ArrowRight")
    two = b.js("document.getElementById('tip').textContent")
    assert one and two and one != two and b.js("document.querySelectorAll('.pt.at').length") == 1, (one, two)
    # a table sorts, both ways, absent last
    b.js("document.querySelectorAll('.panel table')[0].querySelectorAll('th button')[3].click()")
    column = "[...document.querySelectorAll('.panel table')[0].tBodies[0].rows].map(r => r.cells[3].dataset.v).filter(v => v).map(Number)"
    v = b.js(column)
    assert v == sorted(v) and len(v) > settings * .9
    b.js("document.querySelectorAll('.panel table')[0].querySelectorAll('th button')[3].click()")
    assert b.js(column) == sorted(v, reverse=True)
    # texts
    b.js("document.querySelector('details.texts').open = true, new Promise(r => setTimeout(r, 80))")
    first = b.js("document.querySelector('details.texts .asked').textContent")
    b.js("(e => { e.value = 1; e.dispatchEvent(new Event('change')) })(document.querySelector('details.texts select'))")
    assert b.js("document.querySelector('details.texts .asked').textContent") != first
    assert "tokens" in b.js("document.querySelector('details.texts .grid small').textContent")
    # the factors
    before = b.js("[...document.querySelectorAll('#costs tbody tr')].map(r => [+r.dataset.j, r.cells[4].textContent])")
    b.js("(e => { e.value = 0; e.dispatchEvent(new Event('input', {bubbles: true})) })(document.getElementById('grams'))")
    assert b.js("document.querySelector('#costs tbody tr').cells[4].textContent") == "0" != before[0][1]
    b.js("(e => { e.value = 100; e.dispatchEvent(new Event('input', {bubbles: true})) })(document.getElementById('grams'))")
    assert abs(float(b.js("document.querySelector('#costs tbody tr').cells[4].textContent")) - before[0][0] * 1e6 / 3.6e6 * 1.2 * .1) < .01
    # roles, names and labels
    assert b.js("[...document.querySelectorAll('svg[role=img]')].every(s => s.getAttribute('aria-label'))")
    assert b.js("[...document.querySelectorAll('select, input')].every(e => e.labels.length)")
    assert b.js("[...document.querySelectorAll('button')].every(e => e.textContent.trim())")
    assert b.js("document.querySelectorAll('[id]').length === new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"), "an id stands twice"
    # theme button and print
    b.js("document.getElementById('theme').click()")
    assert b.js("document.documentElement.dataset.theme") == "dark"
    b.screen(1000, 1400, media="print")
    assert b.js("getComputedStyle(document.getElementById('filters')).display") == "none" and b.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not b.complaints(), b.complaints()
print("ok")
PY
echo ok
