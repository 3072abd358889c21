// A dialog that shows one image in full. Arrow keys go from one hit to the next.

import { address } from "./api.js";
import { $ } from "./dom.js";
import { displayName, obstacle } from "./grid.js";
import { bytes, date, distance, t } from "./i18n.js";
import { makeImage } from "./image.js";

/**
 * Set up the dialog.
 *
 * @param moved called with the id of the hit that the user went to
 * @param closed called with the id of the hit that the user closed
 * @param search called with the hit that the user wants to search by
 */
export function viewer({ moved, closed, search }) {
  const dialog = $("viewer");
  let answer = null;
  let index = 0;

  function render() {
    const hit = answer.hits[index];
    const name = displayName(hit);
    $("viewer-image").replaceChildren(image(hit, name));
    $("viewer-name").textContent = $("viewer-name").title = name;
    $("viewer-facts").textContent = facts(hit).join(" · ");
    $("viewer-path").textContent = hit.path ?? "";
    $("viewer-path").hidden = !hit.path;
    $("viewer-distance").textContent = t("measured", { metric: t(answer.metric), distance: distance(hit.distance, answer.metric) });
    $("original").hidden = obstacle(hit) !== null;
    $("original").href = address(hit.uri);
    // Not “disabled”, which would take the focus away, and the arrow keys with it.
    $("previous").setAttribute("aria-disabled", index === 0);
    $("next").setAttribute("aria-disabled", index === answer.hits.length - 1);
  }

  /** Show the thumbnail, which the browser has, until the full image is there. */
  function image(hit, name) {
    const reason = obstacle(hit);
    if (reason) return makeImage({ name, alt: name, reason });
    const shown = makeImage({ src: address(hit.thumbnail), name, alt: name });
    const full = new Image();
    full.addEventListener("load", () => {
      const img = shown.querySelector("img");
      if (img) img.src = full.src;
    });
    full.src = address(hit.uri);
    return shown;
  }

  function go(step) {
    const next = Math.min(Math.max(index + step, 0), answer.hits.length - 1);
    if (next === index) return;
    index = next;
    render();
    moved(answer.hits[index].id);
  }

  function close() {
    const { id } = answer.hits[index];
    answer = null;
    dialog.close();
    return id;
  }

  function closeByUser() {
    if (answer) closed(close());
  }

  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("viewer-close").addEventListener("click", closeByUser);
  $("viewer-search").addEventListener("click", () => search(answer.hits[index]));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  });
  // A click outside the dialog has the dialog itself as its target.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) closeByUser();
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault(); // the browser would tell of it only after it closed the dialog
    closeByUser();
  });
  // Of a second Escape, browsers tell only this. The viewer may be open again by then.
  dialog.addEventListener("close", () => {
    if (!dialog.open) closeByUser();
  });

  return {
    /** Show a hit of an answer; returns whether the answer has it. */
    open(shown, id) {
      const found = shown.hits.findIndex((hit) => hit.id === id);
      if (found < 0) return false;
      [answer, index] = [shown, found];
      render();
      if (!dialog.open) {
        dialog.showModal();
        $("viewer-close").focus();
      }
      return true;
    },
    /** Close without a call of `closed`; returns the id of the hit that was open. */
    close: () => (answer ? close() : null),
  };
}

function facts({ label, attributes, size, modified, ...hit }) {
  const name = displayName({ attributes, ...hit });
  const about = [attributes.title, label].filter((text) => text && text !== name);
  if (size != null) about.push(bytes(size));
  if (modified) about.push(date(modified));
  return about;
}
