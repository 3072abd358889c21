// Show the image of a point on the map, and highlight the classes that are chosen in the legend. The page works without this script.
const map = document.querySelector(".map");
if (map) {
  const tip = map.querySelector(".tip");
  const sprite = tip.querySelector("i"); // absent in a report without images
  const text = tip.querySelector("span");
  const dots = [...map.querySelectorAll("circle")];
  const svg = map.querySelector("svg");
  const columns = Number(map.dataset.columns);
  const positions = dots.map((dot) => [dot.cx.baseVal.value, dot.cy.baseVal.value]);
  const names = JSON.parse(map.querySelector("script").textContent);
  let shown = -1;

  const hidden = (i) => map.classList.contains("choosing") && !dots[i].parentNode.classList.contains("chosen");
  const show = (i) => {
    if (shown >= 0) dots[shown].classList.remove("shown");
    shown = i;
    tip.hidden = i < 0;
    if (i < 0) return;
    dots[i].classList.add("shown");
    if (sprite) sprite.style.backgroundPosition = `${-(i % columns) * 2}em ${-Math.floor(i / columns) * 2}em`;
    text.textContent = names[i];
    const dot = dots[i].getBoundingClientRect();
    const frame = map.getBoundingClientRect();
    const [x, y] = [dot.left + dot.width / 2 - frame.left, dot.top + dot.height / 2 - frame.top];
    tip.style.left = `${Math.min(Math.max(x, 56), frame.width - 56)}px`;
    tip.style.top = `${y}px`;
    tip.classList.toggle("below", y < 140);
  };
  const nearest = (x, y, radius, accepts = () => true) => {
    let [best, index] = [radius * radius, -1];
    positions.forEach(([px, py], i) => {
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < best && !hidden(i) && accepts(px, py)) [best, index] = [d, i];
    });
    return index;
  };
  const point = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    show(nearest(x, y, 14 / svg.getScreenCTM().a));
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") show(-1);
    if (!direction) return;
    event.preventDefault();
    if (shown < 0) return show(nearest(500, 500, 2000));
    const [x, y] = positions[shown];
    const inDirection = (px, py) => (px - x) * direction[0] + (py - y) * direction[1] > Math.abs((px - x) * direction[1]) + Math.abs((py - y) * direction[0]);
    const next = nearest(x, y, 2000, inDirection);
    if (next >= 0) show(next);
  });
  for (const button of map.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      map.querySelector(`g[data-class="${button.dataset.class}"]`).classList.toggle("chosen", on);
      map.classList.toggle("choosing", map.querySelector("g.chosen") !== null);
    });
  }
}
