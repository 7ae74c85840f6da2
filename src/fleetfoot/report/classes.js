// Everything is already on the page; this sorts and filters the rows of the table.
(() => {
  if (!byId("classes")) return;
  const body = byId("classes").tBodies[0];
  const rows = all("tr", body);
  const heads = all("#classes thead th");
  const noun = byId("classes").dataset.noun || "classes";

  function show() {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    let seen = 0;
    for (const row of rows) {
      const text = row.firstElementChild.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      seen += !row.hidden;
    }
    byId("count").textContent = `${seen} of ${rows.length} ${noun}`;
  }

  heads.forEach((head, index) => head.addEventListener("click", () => {
    const values = order(heads, head, !head.classList.contains("number"));
    rows.sort((a, b) => values(a.children[index].dataset.v, b.children[index].dataset.v));
    body.append(...rows);
  }));
  byId("find").addEventListener("input", show);
  show();
})();
