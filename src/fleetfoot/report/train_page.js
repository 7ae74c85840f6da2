// The value of the point under the pointer.
for (const dot of all("circle.dot")) {
  dot.addEventListener("pointermove", (event) =>
    tell(event.clientX, event.clientY, make("b", dot.dataset.tip), make("span", dot.dataset.value)));
  dot.addEventListener("pointerleave", () => { byId("tip").hidden = true; });
}
