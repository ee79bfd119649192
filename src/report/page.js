"use strict";
(function () {
  var $ = function (id) { return document.getElementById(id); };
  var all = function (q, of) { return Array.from((of || document).querySelectorAll(q)); };
  var cells = JSON.parse($("cells").textContent), texts = JSON.parse($("texts").textContent);
  var tip = $("tip"), pinned = null;

  /* ---- tips: the title of what is under the pointer or the arrow keys ---- */
  all("svg title").forEach(function (t) {
    var e = t.parentNode;
    e.dataset.tip = t.textContent;
    e.setAttribute("aria-label", t.textContent);
    t.remove();
  });
  function show(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    var w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - w - 6)) + "px";
    tip.style.top = (y + 18 + h > innerHeight ? Math.max(6, y - h - 10) : y + 18) + "px";
  }
  function light(c) {
    all(".lit").forEach(function (e) { e.classList.remove("lit"); });
    all("svg.points").forEach(function (s) { s.classList.toggle("faded", !!c && !!s.querySelector('[data-c="' + c + '"]')); });
    if (c) all('[data-c="' + c + '"]').forEach(function (e) { e.classList.add("lit"); });
  }
  document.addEventListener("pointermove", function (ev) {
    var e = ev.target.closest && ev.target.closest("[data-tip]");
    if (e) show(e.dataset.tip, ev.clientX, ev.clientY); else if (!document.querySelector(".pt.at")) tip.hidden = true;
    var c = ev.target.closest && ev.target.closest(".pt[data-c],tr[data-c],.ledger [data-c]");
    c = c ? c.dataset.c : pinned;
    if (light.last !== c) light(light.last = c);
  });
  document.addEventListener("click", function (ev) {
    var e = ev.target.closest(".pt[data-c]");
    if (!e && !ev.target.closest("svg.points")) return;
    pinned = e && pinned !== e.dataset.c ? e.dataset.c : null;
    light(light.last = pinned);
  });

  /* ---- arrow keys within a chart ---- */
  function leave(s) {
    all(".pt.at", s).forEach(function (e) { e.classList.remove("at"); });
    tip.hidden = true;
    light(light.last = pinned);
  }
  all("svg.points").forEach(function (s) {
    s.addEventListener("keydown", function (ev) {
      var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[ev.key];
      if (ev.key === "Escape") { pinned = null; leave(s); return; }
      if (!step) return;
      ev.preventDefault();
      var v = all(".pt", s).filter(function (e) { return !e.hasAttribute("hidden"); });
      if (!v.length) return;
      v.sort(function (a, b) { return a.dataset.x - b.dataset.x || a.dataset.y - b.dataset.y; });
      var at = v.findIndex(function (e) { return e.classList.contains("at"); });
      at = at < 0 ? (step > 0 ? 0 : v.length - 1) : (at + step + v.length) % v.length;
      all(".pt.at", s).forEach(function (e) { e.classList.remove("at"); });
      v[at].classList.add("at");
      light(light.last = v[at].dataset.c);
      var r = v[at].querySelector(".mark").getBoundingClientRect();
      show(v[at].dataset.tip, r.right, r.bottom - 10);
    });
    s.addEventListener("blur", function () { leave(s); });
  });

  /* ---- the front of what is shown ---- */
  function fronts() {
    all("[data-front]").forEach(function (path) {
      var k = path.dataset.front.split(" ").map(Number), higher = k[0], best = Infinity, d = "";
      var v = all(".pt[data-x]", path.ownerSVGElement).filter(function (e) { return !e.hasAttribute("hidden"); })
        .map(function (e) { return [+e.dataset.x, +e.dataset.y * (higher ? 1 : -1)]; })
        .sort(function (a, b) { return a[0] - b[0] || a[1] - b[1]; });
      v.forEach(function (p) {
        if (p[1] >= best) return;
        var y = p[1] * (higher ? 1 : -1);
        d += (d ? "H" + p[0] : "M" + p[0] + " " + (higher ? k[1] : k[2])) + "V" + y;
        best = p[1];
      });
      path.setAttribute("d", d ? d + "H" + k[3] : "");
    });
  }

  /* ---- filters ---- */
  var form = $("filters"), ids = Object.keys(cells);
  function keep(e, yes) { if (yes) e.removeAttribute("hidden"); else e.setAttribute("hidden", ""); }
  function filter() {
    var t = $("ft").value, m = $("fm").value, s = $("fs").value, b = $("fb").value, ok = {}, n = 0, first = {};
    ids.forEach(function (id) {
      var c = cells[id];
      ok[id] = (!t || c[0] == t) && (!m || c[1] == m) && (!s || c[2] === s) && (!b || c[3] == b);
      n += ok[id];
      first[id] = (!m || c[1] == m) && (!s || c[2] === s) && (!b || c[3] == b);
    });
    all("[data-c]").forEach(function (e) { keep(e, e.closest("#heat") ? first[e.dataset.c] : ok[e.dataset.c]); });
    all("[data-t]").forEach(function (e) { keep(e, !t || e.dataset.t == t); });
    all("figure[data-s]").forEach(function (e) { keep(e, !s || e.dataset.s === s); });
    all("#legend button").forEach(function (e) { e.setAttribute("aria-pressed", e.dataset.s === s); });
    document.body.className = "by-" + $("fj").value;
    $("shown").textContent = n === ids.length ? "" : n + " of " + ids.length + " settings shown";
    fronts();
  }
  form.hidden = false;
  form.addEventListener("submit", function (ev) { ev.preventDefault(); });
  form.addEventListener("change", filter);
  form.addEventListener("reset", function () { setTimeout(filter); });
  [["ft", 2], ["fm", 2], ["fs", 2], ["fb", 2]].forEach(function (f) { $(f[0]).parentNode.hidden = $(f[0]).options.length <= f[1]; });
  all("#legend button").forEach(function (e) {
    e.addEventListener("click", function () { $("fs").value = $("fs").value === e.dataset.s ? "" : e.dataset.s; filter(); });
  });

  filter(); /* a browser may bring old choices back */

  /* ---- sorting ---- */
  all("th button").forEach(function (x) {
    x.addEventListener("click", function () {
      var h = x.parentNode, t = h.closest("table"), up = h.getAttribute("aria-sort") !== "ascending", i = h.cellIndex, o = t.tBodies[0];
      all("th", t).forEach(function (e) { e.removeAttribute("aria-sort"); });
      h.setAttribute("aria-sort", up ? "ascending" : "descending");
      Array.from(o.rows).sort(function (a, b) {
        var p = a.cells[i].dataset.v || "", q = b.cells[i].dataset.v || "";
        if (p === "" || q === "") return (p === "") - (q === "");
        var d = p - q;
        if (isNaN(d)) d = p < q ? -1 : p > q ? 1 : 0;
        return up ? d : -d;
      }).forEach(function (e) { o.appendChild(e); });
    });
  });

  /* ---- texts ---- */
  all("details.texts").forEach(function (d) {
    var of = texts[d.dataset.p], pick = d.querySelector("select");
    if (!of || !of.items.length) return;
    of.items.forEach(function (item, k) { pick.add(new Option(item[0] || "item " + (k + 1), k)); });
    if (of.more > 0) pick.parentNode.append(" of " + (of.items.length + of.more) + "; the others are in requests.csv");
    pick.parentNode.hidden = false;
    function fill() {
      var item = of.items[pick.value];
      d.querySelector(".asked").textContent = item[1];
      all(".grid [data-c]", d).forEach(function (e) {
        var t = item[2][e.dataset.c], words = [];
        e.querySelector("pre").textContent = t ? of.texts[t[0]] : "(no text)";
        if (t && t[1] !== null) words.push("score " + t[1]);
        if (t && t[2] !== null) words.push(t[2] + " tokens");
        if (t) words.push(t[3] === null ? "energy not measured" : t[3] + " J");
        e.querySelector("small").textContent = words.join(", ");
      });
    }
    pick.addEventListener("change", fill);
    d.addEventListener("toggle", function () { if (d.open) fill(); });
  });

  /* ---- cost ---- */
  function number(v) { return v >= 1000 ? Math.round(v).toLocaleString("en") : +v.toPrecision(4) + ""; }
  function cost() {
    var price = +$("price").value, pue = +$("pue").value, grams = +$("grams").value, many = +$("many").value;
    all("#costs tbody tr").forEach(function (r) {
      var kwh = r.dataset.j * many / 3.6e6 * pue;
      r.cells[2].textContent = number(kwh);
      r.cells[3].textContent = number(kwh * price);
      r.cells[4].textContent = number(kwh * grams / 1000);
    });
  }
  $("factors").addEventListener("input", cost);
  $("factors").addEventListener("submit", function (ev) { ev.preventDefault(); });
  cost();

  /* ---- dark or light ---- */
  var theme = $("theme"), root = document.documentElement;
  theme.hidden = false;
  theme.addEventListener("click", function () {
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme:dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
