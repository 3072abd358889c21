// One picture in full: a dialog, with arrow keys from one result to the next.

import { address } from "./api.js";
import { nameOf } from "./grid.js";
import { distance, number, percent, t } from "./i18n.js";

const $ = (id) => document.getElementById(id);

/** Set the dialog up; the function returned opens it on the results of an answer. */
export function viewer(again) {
  const dialog = $("viewer");
  let answer = null;
  let place = 0;

  function show(next) {
    place = Math.min(Math.max(next, 0), answer.hits.length - 1);
    const hit = answer.hits[place];
    const img = $("viewer-image");
    img.src = address(hit.thumbnail); // at once, from the cache; the full one follows
    const full = new Image();
    full.addEventListener("load", () => {
      if (answer.hits[place] === hit) img.src = full.src;
    });
    full.src = address(hit.uri);
    img.alt = nameOf(hit);
    $("viewer-name").textContent = nameOf(hit);
    const facts = [
      t("facts", {
        metric: t(answer.metric),
        distance: distance(hit.distance, answer.metric),
        similarity: number(hit.similarity),
      }),
    ];
    const known = hit.probability != null;
    if (known) facts.push(t("same", { probability: percent(hit.probability) }));
    $("viewer-facts").title = known ? t("sameHow") : "";
    if (hit.label && hit.label !== nameOf(hit)) facts.unshift(hit.label);
    $("viewer-facts").textContent = facts.join(" · ");
    $("original").href = address(hit.uri);
    $("previous").disabled = place === 0;
    $("next").disabled = place === answer.hits.length - 1;
  }

  $("previous").addEventListener("click", () => show(place - 1));
  $("next").addEventListener("click", () => show(place + 1));
  $("viewer-close").addEventListener("click", () => dialog.close());
  $("viewer-again").addEventListener("click", () => {
    dialog.close();
    again(answer.hits[place]);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(place - 1);
    if (event.key === "ArrowRight") show(place + 1);
  });
  // A click on what is around the dialog is one on the dialog itself, not on anything in it.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  return (found, at) => {
    answer = found;
    show(at);
    dialog.showModal();
    $("viewer-close").focus();
  };
}
