// Points of the map show their pictures; names in the legend single their class out. Without it the page is all there.
const map = document.querySelector(".map");
if (map) {
  const tip = map.querySelector(".tip");
  const picture = tip.querySelector("i");
  const text = tip.querySelector("span");
  const dots = [...map.querySelectorAll("circle")];
  const svg = map.querySelector("svg");
  const columns = Number(map.dataset.columns);
  const places = dots.map((dot) => [dot.cx.baseVal.value, dot.cy.baseVal.value]);
  const names = JSON.parse(map.querySelector("script").textContent);
  let shown = -1;

  const hidden = (i) => map.classList.contains("choosing") && !dots[i].parentNode.classList.contains("chosen");
  const show = (i) => {
    if (shown >= 0) dots[shown].classList.remove("shown");
    shown = i;
    tip.hidden = i < 0;
    if (i < 0) return;
    dots[i].classList.add("shown");
    picture.style.backgroundPosition = `${-(i % columns) * 2}em ${-Math.floor(i / columns) * 2}em`;
    text.textContent = names[i];
    const dot = dots[i].getBoundingClientRect();
    const frame = map.getBoundingClientRect();
    const [x, y] = [dot.left + dot.width / 2 - frame.left, dot.top + dot.height / 2 - frame.top];
    tip.style.left = `${Math.min(Math.max(x, 56), frame.width - 56)}px`;
    tip.style.top = `${y}px`;
    tip.classList.toggle("below", y < 140);
  };
  const nearest = (x, y, reach, fits = () => true) => {
    let [best, at] = [reach * reach, -1];
    places.forEach(([px, py], i) => {
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < best && !hidden(i) && fits(px, py)) [best, at] = [d, i];
    });
    return at;
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
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") show(-1);
    if (!way) return;
    event.preventDefault();
    if (shown < 0) return show(nearest(500, 500, 2000));
    const [x, y] = places[shown];
    const ahead = (px, py) => (px - x) * way[0] + (py - y) * way[1] > Math.abs((px - x) * way[1]) + Math.abs((py - y) * way[0]);
    const next = nearest(x, y, 2000, ahead);
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
