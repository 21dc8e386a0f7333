"use strict";
const byId = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function resolved(description, value) {
  if (!value || !value.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((found, key) => found[key], description);
}

function labelled(text, field) {
  return element("label", {}, text, field);
}

function addressOf(path, fields) {
  const query = new URLSearchParams();
  let address = path.slice(1);
  for (const [parameter, field] of fields) {
    if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, encodeURIComponent(field.value));
    if (parameter.in === "query" && field.value) query.set(parameter.name, field.value);
  }
  const asked = query.toString();
  return asked ? `${address}?${asked}` : address;
}

function headersOf(fields, media) {
  const headers = {};
  if (byId("token").value) headers.Authorization = `Bearer ${byId("token").value}`;
  if (media && media !== "multipart/form-data") headers["Content-Type"] = media;
  for (const [parameter, field] of fields) {
    if (parameter.in === "header" && field.value) headers[parameter.name] = field.value;
  }
  return headers;
}

function bodyOf(media, text, file) {
  if (media !== "multipart/form-data") return file || text;
  const form = new FormData();
  form.append("data", file || text);
  return form;
}

async function shown(response) {
  const type = response.headers.get("Content-Type") || "";
  const text = type.includes("octet-stream") ? `${(await response.arrayBuffer()).byteLength} bytes` : await response.text();
  if (!type.includes("json")) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 1);
  } catch {
    return text;
  }
}

function trial(method, path, operation) {
  const fields = operation.parameters.map((parameter) => [parameter, element("input", { placeholder: parameter.description || "" })]);
  const medias = Object.keys(operation.requestBody?.content || {});
  const media = element("select", {}, ...medias.map((name) => element("option", {}, name)));
  const text = element("textarea", { spellcheck: false });
  const file = element("input", { type: "file" });
  const answer = element("pre", { hidden: true });
  const send = element("button", {}, "Send");
  send.onclick = async () => {
    send.disabled = true;
    answer.hidden = false;
    answer.textContent = "…";
    const started = performance.now();
    try {
      const request = { method, headers: headersOf(fields, media.value) };
      if (medias.length) request.body = bodyOf(media.value, text.value, file.files[0]);
      const response = await fetch(addressOf(path, fields), request);
      const content = await shown(response);
      answer.textContent = `${response.status} ${response.statusText} · ${Math.round(performance.now() - started)} ms\n\n${content}`;
    } catch (error) {
      answer.textContent = String(error);
    }
    send.disabled = false;
  };
  const body = medias.length ? [labelled("Kind of body", media), labelled("Body", text), labelled("or a file", file)] : [];
  return element("div", {}, ...fields.map(([parameter, field]) => labelled(`${parameter.name} (${parameter.in})`, field)), ...body, send, answer);
}

function contentsOf(description, content) {
  return Object.entries(content || {}).map(([media, each]) =>
    element("div", {}, element("span", { className: "soft" }, media), element("pre", {}, JSON.stringify(resolved(description, each.schema), null, 1))));
}

function details(description, method, path, operation) {
  const responses = Object.entries(operation.responses).map(([status, each]) => [status, resolved(description, each)]);
  const refusals = responses.filter(([status]) => status >= "400");
  const done = responses.filter(([status]) => status < "400");
  return element("div", {},
    element("h3", {}, "Try it"), trial(method, path, operation),
    ...(operation.requestBody ? [element("h3", {}, "Body"), ...contentsOf(description, operation.requestBody.content)] : []),
    ...done.flatMap(([status, each]) => [element("h3", {}, `Answer ${status}`), ...contentsOf(description, each.content)]),
    element("h3", {}, "Refusals"),
    element("dl", {}, ...refusals.flatMap(([status, each]) => [element("dt", {}, status), element("dd", {}, each.description)])));
}

function entry(description, method, path, operation) {
  const summary = element("summary", {},
    element("span", { className: "method" }, method), element("code", {}, path), " ",
    element("span", { className: "soft" }, operation.summary));
  const made = element("details", {}, summary);
  made.dataset.words = `${method} ${path} ${operation.summary}`.toLowerCase();
  made.addEventListener("toggle", () => made.append(details(description, method, path, operation)), { once: true });
  return made;
}

function find() {
  const words = byId("filter").value.toLowerCase();
  for (const each of document.querySelectorAll("details")) each.hidden = !each.dataset.words.includes(words);
  for (const each of document.querySelectorAll("section")) each.hidden = !each.querySelector("details:not([hidden])");
}

async function start() {
  const description = await (await fetch("openapi.json")).json();
  byId("version").textContent = description.info.version;
  const sections = new Map(description.tags.map(({ name }) => [name, element("section", {}, element("h2", {}, name))]));
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      sections.get(operation.tags[0]).append(entry(description, method.toUpperCase(), path, operation));
    }
  }
  byId("routes").replaceChildren(...sections.values());
  byId("filter").addEventListener("input", find);
}

start().catch((error) => { byId("state").textContent = `openapi.json could not be read: ${error}`; });
