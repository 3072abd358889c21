// An image, or a tile with its name and the reason if the browser cannot show it.

import { icon, make, makeName } from "./dom.js";
import { t } from "./i18n.js";

/** Make an image. Without `src`, or if it does not load, the tile shows `name` and `reason` instead. */
export function makeImage({ src, name, alt = "", lazy = false, reason = t("noPreview") }) {
  const frame = make("span", "image-frame");
  const showTile = () => {
    const title = makeName("span", "tile-name", name);
    if (!alt) title.setAttribute("aria-hidden", "true"); // the name of the button around it has this text
    const tile = make("span", "tile");
    tile.append(icon("no-photo"), title, make("span", "tile-reason", reason));
    frame.replaceChildren(tile);
  };
  if (!src) {
    showTile();
    return frame;
  }
  const img = make("img");
  img.alt = alt;
  if (lazy) img.loading = "lazy";
  img.decoding = "async";
  img.addEventListener("error", showTile, { once: true });
  img.src = src;
  frame.append(img);
  return frame;
}
