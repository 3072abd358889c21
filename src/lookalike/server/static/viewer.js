// A dialog that shows one image in full. Arrow keys go from one result to the next.

import { address } from "./api.js";
import { displayName } from "./grid.js";
import { distance, number, percent, t } from "./i18n.js";

const $ = (id) => document.getElementById(id);

/** Set up the dialog. Returns a function that opens it on a result of an answer. */
export function viewer(search) {
  const dialog = $("viewer");
  let answer = null;
  let index = 0;

  function show(next) {
    index = Math.min(Math.max(next, 0), answer.hits.length - 1);
    const hit = answer.hits[index];
    const img = $("viewer-image");
    img.src = address(hit.thumbnail); // the cached thumbnail appears at once, then the full image
    const full = new Image();
    full.addEventListener("load", () => {
      if (answer.hits[index] === hit) img.src = full.src;
    });
    full.src = address(hit.uri);
    img.alt = displayName(hit);
    $("viewer-name").textContent = displayName(hit);
    const facts = [
      t("facts", {
        metric: t(answer.metric),
        distance: distance(hit.distance, answer.metric),
        similarity: number(hit.similarity),
      }),
    ];
    const calibrated = hit.probability != null;
    if (calibrated) facts.push(t("same", { probability: percent(hit.probability) }));
    $("viewer-facts").title = calibrated ? t("sameMeaning") : "";
    if (hit.label && hit.label !== displayName(hit)) facts.unshift(hit.label);
    $("viewer-facts").textContent = facts.join(" · ");
    $("original").href = address(hit.uri);
    $("previous").disabled = index === 0;
    $("next").disabled = index === answer.hits.length - 1;
  }

  $("previous").addEventListener("click", () => show(index - 1));
  $("next").addEventListener("click", () => show(index + 1));
  $("viewer-close").addEventListener("click", () => dialog.close());
  $("viewer-search").addEventListener("click", () => {
    dialog.close();
    search(answer.hits[index]);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(index - 1);
    if (event.key === "ArrowRight") show(index + 1);
  });
  // A click outside the dialog has the dialog itself as its target.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  return (newAnswer, start) => {
    answer = newAnswer;
    show(start);
    dialog.showModal();
    $("viewer-close").focus();
  };
}
