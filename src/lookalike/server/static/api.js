// The server, as functions. Nothing else here knows an address.

const configured =
  new URLSearchParams(location.search).get("api") || document.querySelector('meta[name="lookalike-api"]').content;
const base = new URL(configured || ".", document.baseURI);
if (!base.pathname.endsWith("/")) base.pathname += "/";

/** Something that the server refused (with its problem details), or that never reached it. */
export class Failure extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
  }

  get unreachable() {
    return this.problem.status === 0;
  }
}

/** An address that the API gave, as one the browser can load. */
export const address = (path) => new URL(path, base).href;

export const documentation = new URL("docs", base).href;

const of = (collection) => `api/collections/${encodeURIComponent(collection)}`;

export const collections = async () => (await call("api/collections")).collections;

export const item = (collection, id) => call(`${of(collection)}/items/${encodeURIComponent(id)}`);

export function sample(collection, { seed, labels, limit }, signal) {
  const query = new URLSearchParams({ shuffle: seed, limit });
  for (const label of labels) query.append("label", label);
  return call(`${of(collection)}/items?${query}`, { signal });
}

/** Search by `{item}`, `{image: Blob}` or `{sketch: Blob}`; options are `k` or `within`, `metric`, `labels`. */
export function search(collection, subject, { labels, ...options }, signal) {
  const form = new FormData();
  const fields = { ...options, ...subject };
  if (labels.length) fields.filter = JSON.stringify({ labels });
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return call(`${of(collection)}/search`, { method: "POST", body: form, signal });
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(new URL(path, base), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure({ status: 0, title: error.message });
  }
  let body;
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    body = { title: response.statusText || String(response.status) }; // no answer of ours: a proxy's, perhaps
    if (response.ok) throw new Failure({ ...body, status: 0 });
  }
  if (!response.ok) throw new Failure({ ...body, status: response.status });
  return body;
}
