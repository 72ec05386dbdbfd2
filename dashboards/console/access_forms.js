/** The forms of the page of logins: a key of one's own to keep, and a login to ask for. */

import { ApiError, all, send } from "/console/api.js";
import { announce, byId, h } from "/console/dom.js";

const DAY_S = 86400;

/** `changed` is called when one was taken, `failed` with what was wrong. */
export function offer(changed, failed) {
  on("key-form", async (told) => {
    if (told.public_key.includes("PRIVATE KEY")) throw new ApiError(0, "This is the private half, and was not sent: give the line of the file that ends in .pub.");
    const kept = await send("POST", "/v1/ssh-keys", { public_key: told.public_key, label: told.label });
    announce(`Key ${kept.fingerprint} is kept.`);
  }, changed, failed);
  on("login-form", async (told) => {
    const key = told.key ? { key: Number(told.key) } : {};
    const asked = await send("POST", "/v1/grants", {
      [told.kind]: told.target, reason: told.reason, duration_s: Number(told.days) * DAY_S, ...key,
    });
    announce(`Login ${asked.id} is asked for.`);
  }, changed, failed);
}

function on(id, act, changed, failed) {
  const form = byId(id);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      await act(Object.fromEntries(new FormData(form)));
      form.reset();
      form.closest("details").open = false;
      await changed();
    } catch (problem) {
      failed(problem);
    } finally {
      button.disabled = false;
    }
  });
}

/** What there is to choose from: the names of nodes and pools, and one's keys when there are several. */
export async function choices(keys) {
  const nodes = await all("/v1/nodes").catch(() => []);
  const names = [...nodes.map((node) => node.name), ...new Set(nodes.map((node) => node.pool).filter(Boolean))];
  byId("targets").replaceChildren(...names.map((name) => h("option", { value: name })));
  const select = byId("login-key");
  select.replaceChildren(...keys.map((key) => h("option", { value: key.id }, `${key.label || key.fingerprint} (${key.type})`)));
  select.disabled = keys.length < 2;
  byId("login-key-label").hidden = keys.length < 2;
}
