// Everything is already on the page; this folds, sorts, filters, zooms and points.
(() => {
  const table = byId("layers");
  const body = table.tBodies[0];
  const rows = all("tr", body);                        // in the order in which they run
  const heads = all("thead th", table);
  const tip = byId("tip");
  const children = new Map(rows.map((row) => [row.id, []]));
  for (const row of rows) children.get(row.dataset.parent)?.push(row);
  const parent = (row) => byId(row.dataset.parent);
  const foldOf = (row) => row.querySelector(".fold");
  const isOpen = (row) => foldOf(row)?.getAttribute("aria-expanded") === "true";
  const setOpen = (row, open) => foldOf(row)?.setAttribute("aria-expanded", String(open));
  const isLeaf = (row) => row.classList.contains("leaf");
  let compare = null;                                  // of two rows; null is the order of running

  function arranged(from) {
    const list = compare ? [...from].sort(compare) : from;
    return list.flatMap((row) => [row, ...arranged(children.get(row.id))]);
  }

  function show() {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const flat = byId("flat").checked;
    table.classList.toggle("flat", flat);
    const fits = (row) => {
      const text = `${row.dataset.tip} ${row.dataset.kind} ${row.dataset.type} ${row.textContent}`.toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const found = new Set(rows.filter((row) => isLeaf(row) && fits(row)));
    const holds = new Set(found);                      // what was found and all that holds it
    for (const row of found) for (let up = parent(row); up; up = parent(up)) holds.add(up);
    const leaves = rows.filter(isLeaf);
    body.append(...(flat ? (compare ? [...leaves].sort(compare) : leaves) : arranged([rows[0]])));
    for (const row of rows) {
      let seen = holds.has(row);
      if (!flat && !words.length) for (let up = parent(row); up && seen; up = parent(up)) seen = isOpen(up);
      row.hidden = !seen || (flat && !isLeaf(row));
    }
    byId("count").textContent = `${found.size} of ${leaves.length} layers`;
  }

  function sort(head) {
    const index = heads.indexOf(head);
    const values = order(heads, head, !head.classList.contains("number"));
    compare = (a, b) => values(a.children[index].dataset.v, b.children[index].dataset.v);
    show();
  }

  function facts(row, x, y) {
    const list = document.createElement("dl");
    heads.forEach((head, index) => {
      const cell = row.children[index];
      if (index === 0 || !cell.textContent || cell.textContent === "-") return;
      const [title, unit] = [head.firstElementChild.firstChild.textContent, head.querySelector("small").textContent];
      const numbers = head.classList.contains("number");
      list.append(make("dt", title), make("dd", numbers ? `${cell.textContent} ${unit}` : cell.textContent));
    });
    if (row.dataset.kind) list.append(make("dt", "kind"), make("dd", row.dataset.kind));
    if (row.dataset.quartiles) list.append(make("dt", "half of the runs"), make("dd", row.dataset.quartiles));
    tell(x, y, make("b", `${row.dataset.tip} ${row.dataset.type ?? ""}`), list);
  }

  function light(row) {
    for (const lit of all(".lit")) lit.classList.remove("lit");
    tip.hidden = true;
    if (!row) return;
    row.classList.add("lit");
    for (const mark of all(".mark, .cell")) if (mark.dataset.row === row.id) mark.classList.add("lit");
  }

  // Leads to a row: opens all that holds it, and marks it.
  function choose(row) {
    if (row.hidden) byId("find").value = "";
    if (!isLeaf(row)) byId("flat").checked = false;
    for (let up = parent(row); up; up = parent(up)) setOpen(up, true);
    show();
    for (const other of all(".chosen")) other.classList.remove("chosen");
    row.classList.add("chosen");
    light(null);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    row.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
    const target = foldOf(row) ?? row;
    if (target === row) row.tabIndex = -1;
    target.focus({ preventScroll: true });
  }

  // One of the items can be reached by Tab, the others from there by the arrow keys.
  function rove(holder, items, act) {
    const seen = () => items.filter((item) => item.style.display !== "none");
    const at = (item) => {
      const box = item.getBoundingClientRect();
      return [Math.max(box.left, 0) + Math.min(box.width / 2, 40), box.bottom - 8];
    };
    holder.addEventListener("keydown", (event) => {
      const item = event.target.closest("[data-row]");
      const list = seen();
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!item || (!step && event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      if (!step) { act(item); return; }
      const next = list[(list.indexOf(item) + step + list.length) % list.length];
      item.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    holder.addEventListener("focusin", (event) => {
      const item = event.target.closest("[data-row]");
      if (!item?.matches(":focus-visible")) return;
      light(byId(item.dataset.row));
      facts(byId(item.dataset.row), ...at(item));
    });
    holder.addEventListener("focusout", () => light(null));
    holder.addEventListener("pointermove", (event) => {
      const item = event.target.closest("[data-row]");
      light(item && byId(item.dataset.row));
      if (item) facts(byId(item.dataset.row), event.clientX, event.clientY);
    });
    holder.addEventListener("pointerleave", () => light(null));
    holder.addEventListener("click", (event) => {
      const item = event.target.closest("[data-row]");
      if (!item) return;
      event.preventDefault();
      act(item);
    });
  }

  const icicle = document.querySelector(".icicle");
  const cells = all(".cell", icicle);
  const cellOf = new Map(cells.map((cell) => [cell.dataset.row, cell]));
  let zoomed = cells[0];

  function lay() {
    if (!zoomed) return;
    const [from, wide] = [Number(zoomed.dataset.x), Number(zoomed.dataset.w)];
    const pixels = icicle.getBoundingClientRect().width;
    for (const cell of cells) {
      const left = Math.max(0, (Number(cell.dataset.x) - from) / wide);
      const right = Math.min(1, (Number(cell.dataset.x) + Number(cell.dataset.w) - from) / wide);
      const shown = right - left > 1e-6;
      cell.style.display = shown ? "" : "none";
      if (!shown) continue;
      cell.setAttribute("x", `${100 * left}%`);
      cell.setAttribute("width", `${100 * (right - left)}%`);
      fit(cell, (right - left) * pixels - 10);
    }
    const steps = [...above(zoomed).reverse(), zoomed].map((cell) => press(cell.dataset.name, () => zoom(cell)));
    const lead = press("show its row", () => choose(byId(zoomed.dataset.row)));
    byId("trail").replaceChildren(...steps.flatMap((step, index) => (index ? [" › ", step] : [step])), " · ", lead);
  }

  // The cells that hold a cell, the nearest first.
  function above(cell) {
    const found = [];
    for (let up = parent(byId(cell.dataset.row)); up; up = parent(up)) if (cellOf.has(up.id)) found.push(cellOf.get(up.id));
    return found;
  }

  function press(text, act) {
    const button = make("button", text);
    button.type = "button";
    button.addEventListener("click", act);
    return button;
  }

  // As much of the name as there is room for.
  function fit(cell, room) {
    const text = cell.querySelector("text");
    const name = cell.dataset.name;
    text.textContent = room < 14 ? "" : name;
    if (room < 14 || text.getComputedTextLength() <= room) return;
    let [low, high] = [0, name.length];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (text.getSubStringLength(0, middle) <= room - 10) low = middle; else high = middle - 1;
    }
    text.textContent = low > 1 ? `${name.slice(0, low)}…` : "";
  }

  function zoom(cell) {
    zoomed = cell === zoomed ? above(cell)[0] ?? cell : cell;   // the widest cell, again, leads back
    light(null);
    lay();
  }

  for (const chart of all(".chart")) rove(chart, all(".mark", chart), (mark) => choose(byId(mark.dataset.row)));
  rove(icicle, cells, zoom);
  for (const link of all("a.to-row")) {
    link.addEventListener("click", (event) => { event.preventDefault(); choose(byId(link.dataset.row)); });
  }
  for (const link of all(".title a:not(.to-row)")) {
    link.addEventListener("click", () => { document.querySelector(link.hash).open = true; });
  }
  for (const button of all(".kinds button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const mark of all(".mark")) {
        if (mark.dataset.kind === button.dataset.kind) mark.style.display = on ? "" : "none";
      }
    });
  }
  for (const head of heads) head.querySelector("button").addEventListener("click", () => sort(head));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (!event.target.closest(".fold")) return;
    setOpen(row, !isOpen(row));
    show();
  });
  body.addEventListener("pointerover", (event) => light(event.target.closest("tr")));
  body.addEventListener("pointerleave", () => light(null));
  for (const [id, open] of [["fold", false], ["unfold", true]]) {
    byId(id).addEventListener("click", () => {
      for (const row of rows.slice(1)) setOpen(row, open);
      show();
    });
  }
  byId("find").addEventListener("input", show);
  byId("flat").addEventListener("change", show);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") light(null); });
  addEventListener("resize", lay);
  addEventListener("beforeprint", () => { for (const part of all("details")) part.open = true; });

  // The deepest fold at which the table is still short; what is printed is all of it.
  const SHORT = 32;
  let depth = 1;
  const upTo = (limit) => rows.filter((row) => Number(row.dataset.depth) <= limit).length;
  while (upTo(depth + 1) <= SHORT && upTo(depth + 1) > upTo(depth)) depth += 1;
  for (const row of rows) setOpen(row, Number(row.dataset.depth) < depth);
  byId("trail").hidden = false;
  show();
  lay();
})();
