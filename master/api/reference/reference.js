"use strict";
// Shows an OpenAPI document. Everything from it is put into the page as text, never as markup.
const el = (name, props, ...children) => {
  const e = document.createElement(name);
  Object.assign(e, props || {});
  for (const c of children.flat()) if (c !== null && c !== undefined) e.append(c);
  return e;
};
const short = (ref) => ref.split("/").pop();

// type says in a few words what a schema is; references are links.
function type(s) {
  if (!s) return ["anything"];
  if (s.$ref) return [el("a", { href: "#" + short(s.$ref), textContent: short(s.$ref) })];
  const kind = Array.isArray(s.type) ? s.type.join(" or ") : s.type;
  if (kind === "array") return ["list of ", ...type(s.items)];
  if (kind === "object" && s.additionalProperties && typeof s.additionalProperties === "object") return ["map of ", ...type(s.additionalProperties)];
  const more = [];
  if (s.format) more.push(s.format);
  if (s.enum) more.push(s.enum.join(", "));
  if (s.minimum !== undefined || s.maximum !== undefined) more.push((s.minimum ?? "…") + " to " + (s.maximum ?? "…"));
  if (s.maxLength !== undefined) more.push("up to " + s.maxLength + " characters");
  if (s.default !== undefined && s.default !== "") more.push("default " + JSON.stringify(s.default));
  return [(kind || "anything") + (more.length ? " (" + more.join("; ") + ")" : "")];
}

function table(head, rows) {
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((h) => el("th", { scope: "col", textContent: h })))),
    el("tbody", {}, rows.map((r) => el("tr", {}, r.map((c) => el("td", {}, c))))));
}

function properties(s) {
  const need = new Set(s.required || []);
  return table(["field", "type", ""], Object.entries(s.properties || {}).map(([name, p]) =>
    [el("code", { textContent: name }), type(p), [need.has(name) ? "always there. " : "", p.description || ""]]));
}

function content(c) {
  return Object.entries(c || {}).map(([kind, media]) => el("p", {}, el("code", { textContent: kind }), ": ", type(media.schema)));
}

function operation(path, method, o) {
  const params = (o.parameters || []).map((p) => [el("code", { textContent: p.name }), p.in, type(p.schema), (p.required ? "needed. " : "") + (p.description || "")]);
  const d = el("details", { id: o.operationId },
    el("summary", {}, el("span", { className: "role", textContent: o["x-role"] || "anybody" }), el("code", { className: "method", textContent: method.toUpperCase() }), el("code", { textContent: path }), " ", o.summary || ""),
    el("div", {}, el("p", { textContent: o.description || "" }), params.length ? table(["parameter", "in", "type", ""], params) : null,
      o.requestBody ? [el("h4", { textContent: "Body" }), content(o.requestBody.content)] : null,
      el("h4", { textContent: "Answers" }), Object.entries(o.responses || {}).map(([status, r]) => el("div", {}, el("strong", { textContent: status + " " }), r.description || "", content(r.content)))));
  d.dataset.words = [path, method, o.operationId, o.summary, o.description].join(" ").toLowerCase();
  return d;
}

async function show() {
  const main = document.getElementById("main");
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error("status " + answer.status);
  const doc = await answer.json();
  const tags = new Map((doc.tags || []).map((t) => [t.name, []]));
  for (const [path, methods] of Object.entries(doc.paths)) for (const [method, o] of Object.entries(methods)) {
    const tag = (o.tags || ["other"])[0];
    if (!tags.has(tag)) tags.set(tag, []);
    tags.get(tag).push(operation(path, method, o));
  }
  main.replaceChildren(el("p", { textContent: doc.info.description || "" }));
  for (const [name, list] of tags) {
    const about = (doc.tags || []).find((t) => t.name === name);
    main.append(el("section", {}, el("h2", { textContent: name }), el("p", { textContent: about ? about.description : "" }), list));
  }
  const schemas = Object.entries(doc.components.schemas).map(([name, s]) => {
    const d = el("details", { id: name }, el("summary", {}, el("code", { textContent: name })), el("div", {}, el("p", { textContent: s.description || "" }), properties(s)));
    d.dataset.words = name.toLowerCase();
    return d;
  });
  main.append(el("section", {}, el("h2", { textContent: "Types" }), schemas));
  const open = () => { const d = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1))); if (d) { d.open = true; d.scrollIntoView(); } };
  addEventListener("hashchange", open);
  open();
  document.getElementById("search").addEventListener("input", (e) => {
    const words = e.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const d of main.querySelectorAll("details")) d.hidden = !words.every((w) => d.dataset.words.includes(w));
  });
}
show().catch((err) => document.getElementById("main").replaceChildren(el("p", { textContent: "The document could not be read: " + err.message })));
