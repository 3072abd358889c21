// The address holds the state of the page (#c=collection&item=id…), so that back, forward, reload and links work. Each entry
// of the browser's history also has a key, under which this module stores how far its page was scrolled.

const STORAGE = "lookalike-history";

let onChange = () => {};
let settled = Promise.resolve(); // waits for a step back that the browser has not finished
const places = load(); // key of an entry → {y, shown}

function load() {
  try {
    return new Map(JSON.parse(sessionStorage.getItem(STORAGE) ?? "[]"));
  } catch {
    return new Map(); // storage may be forbidden
  }
}

const newKey = () => Math.random().toString(36).slice(2);

/** Return the key of the current entry of the history. */
export const key = () => history.state?.key;

/** Call `change` whenever the address changes: `change({ traversed })`. */
export function listen(change) {
  onChange = change;
  history.scrollRestoration = "manual"; // the browser would scroll before the results are there
  if (!key()) history.replaceState({ key: newKey() }, "");
  window.addEventListener("popstate", () => {
    if (!key()) history.replaceState({ key: newKey() }, ""); // a link, or an address that the user typed
    onChange({ traversed: true });
  });
  window.addEventListener("scroll", () => notePlace({ y: scrollY }), { passive: true });
  window.addEventListener("pagehide", () => {
    try {
      sessionStorage.setItem(STORAGE, JSON.stringify([...places].slice(-50)));
    } catch {
      // as above
    }
  });
}

/** Remember how far the page is scrolled, or how many images it shows. */
export function notePlace(change) {
  places.set(key(), { ...places.get(key()), ...change });
}

/** Return where the user left the current page: `{y, shown}`. */
export const place = () => ({ y: 0, shown: 0, ...places.get(key()) });

/** Wait until the browser has finished a step back. */
export const whenSettled = () => settled;

export const parameters = () => new URLSearchParams(location.hash.slice(1));

/**
 * Change the address and show its state. A value of null removes a parameter. `above` marks an entry that only opens
 * something above the page.
 */
export async function navigate(changes, { replace = false, above = false } = {}) {
  await settled;
  const changed = parameters();
  for (const [name, value] of Object.entries(changes)) {
    changed.delete(name);
    for (const part of Array.isArray(value) ? value : [value]) if (part !== null) changed.append(name, part);
  }
  const url = `${location.pathname}${location.search}#${changed}`;
  if (replace) {
    const stays = changed.has("open");
    history.replaceState({ ...history.state, above: stays && history.state.above }, "", url);
    if (!stays) notePlace({ shown: 0 });
  } else {
    notePlace({ y: scrollY });
    const before = place();
    history.pushState({ key: newKey(), above }, "", url);
    if (above) notePlace(before);
  }
  return onChange({ traversed: false });
}

/** Remove a parameter that opened something above the page: step back if opening it made an entry. */
export function leave(name) {
  if (!history.state?.above) return navigate({ [name]: null }, { replace: true });
  settled = new Promise((resolve) => {
    window.addEventListener("popstate", resolve, { once: true });
    setTimeout(resolve, 5000); // should the browser have no entry to go to
  });
  history.back();
  return settled;
}
