"use strict";
// What the pages have in common. All text goes in as text.
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

function make(tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Shows the tip beside (x, y) of the window, within it.
function tell(x, y, ...parts) {
  const tip = byId("tip");
  tip.replaceChildren(...parts);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${Math.max(8, y + 14 + box.height > innerHeight ? y - box.height - 14 : y + 14)}px`;
}

// Marks the head that was chosen; whether its column is now to rise, and how two of its values compare.
function order(heads, head, upFirst) {
  const was = head.getAttribute("aria-sort");
  const up = was === "none" ? upFirst : was !== "ascending";
  for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const numbers = head.classList.contains("number");
  return (x, y) => {
    if (x === "" || y === "") return (x === "") - (y === "");   // what is unknown stays last
    const found = numbers ? x - y : x.localeCompare(y);
    return up ? found : -found;
  };
}

