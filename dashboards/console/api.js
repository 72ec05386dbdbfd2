/** Requests to the API with the bearer token. The token lives in this tab's sessionStorage and in no address. */

const KEY = "tinyfleet.token";

/** A refused request: `status` (0: the server could not be reached) and what the problem document said. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Move a token from the address (#token=…) into sessionStorage, and clear the address. */
export function adoptToken(location, history, storage) {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return;
  storage.setItem(KEY, token.trim());
  fragment.delete("token");
  const rest = fragment.toString();
  history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

/** Ask for `path` (GET unless said otherwise); the response, or ApiError. */
export async function request(path, { signal, headers = {}, method = "GET", body } = {}) {
  if (!token.get()) throw new ApiError(401, "Signed out.");
  let response;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { Authorization: `Bearer ${token.get()}`, ...headers },
      cache: "no-store",
      credentials: "omit",
      signal,
    });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (!response.ok) throw new ApiError(response.status, await problem(response));
  return response;
}

async function problem(response) {
  try {
    const document = await response.json();
    return [document.title, document.detail].filter(Boolean).join(": ");
  } catch {
    return `The server answered ${response.status}.`;
  }
}

/** GET JSON. */
export const get = async (path, options) => (await request(path, options)).json();

/** Send JSON; the answer's. */
export async function send(method, path, document) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method, headers, body: JSON.stringify(document) })).json();
}

/** GET text. */
export const text = async (path, options) => (await request(path, options)).text();

/** The items of one page of a list. */
export async function list(path, limit = 100) {
  const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=${limit}`);
  return page.items;
}

/** All items of a list, page by page, at most `most`. */
export async function all(path, most = 2000) {
  const items = [];
  let after = null;
  do {
    const page = await get(`${path}?limit=200${after === null ? "" : `&after=${encodeURIComponent(after)}`}`);
    items.push(...page.items);
    after = page.next ?? null;
  } while (after !== null && items.length < most);
  return items;
}
