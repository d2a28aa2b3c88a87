// The chat page. What comes from documents and models is only ever set as text: no markup is made of it.

const at = (id) => document.getElementById(id);
const log = at("log"), status = at("status"), field = at("message"), chooser = at("model");
let messages = [];
let running = null;
let answers = 0;

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function tell(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, redirect: "error" });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Error(body.error?.message || `The server answered ${answer.status}.`);
}

async function listModels() {
  const { data } = await (await call("/v1/models")).json();
  chooser.replaceChildren(...data.map((model) => make("option", "", model.id)));
  chooser.disabled = false;
}

// --- the answer as it arrives -------------------------------------------------------------------------------------

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value.replaceAll("\r\n", "\n");
    let end;
    while ((end = held.indexOf("\n\n")) >= 0) {
      const lines = held.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
      held = held.slice(end + 2);
      const data = lines.map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

async function ask(question) {
  messages.push({ role: "user", content: question });
  addQuestion(question);
  const item = addAnswer();
  const seen = { text: "", draft: "", extra: {} };
  running = new AbortController();
  busy(true);
  try {
    const body = JSON.stringify({ model: chooser.value, messages, stream: true });
    const answer = await call("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
      signal: running.signal,
    });
    for await (const event of events(answer)) take(event, item, seen);
    finish(item, seen);
    tell("Answered.");
  } catch (error) {
    giveUp(item, seen, error);
  } finally {
    running = null;
    busy(false);
  }
}

function take(event, item, seen) {
  if (event.error) throw new Error(event.error.message);
  const extra = event.tinyforge || {};
  if (extra.draft) seen.draft += extra.draft;
  else Object.assign(seen.extra, extra);
  seen.text += event.choices?.[0]?.delta?.content || "";
  item.text.textContent = seen.text || seen.draft;
  item.text.classList.toggle("draft", !seen.text);
  follow();
}

function giveUp(item, seen, error) {
  const stopped = error.name === "AbortError";
  messages.pop();
  if (!seen.text && !seen.draft) item.box.remove();
  else item.box.append(make("p", "note", stopped ? "Stopped." : "The answer broke off."));
  tell(stopped ? "Stopped." : error.message, !stopped);
}

// --- what is shown ------------------------------------------------------------------------------------------------

function addQuestion(text) {
  const box = make("li", "mine");
  box.append(make("span", "who", "You"), make("p", "text", text));
  log.append(box);
  follow();
}

function addAnswer() {
  const box = make("li", "theirs");
  const text = make("p", "text draft", "…");
  box.append(make("span", "who", chooser.value), text);
  log.append(box);
  answers += 1;
  return { box, text, number: answers };
}

function finish(item, seen) {
  const { citations = [], sentences = [], quoted } = seen.extra;
  item.text.classList.remove("draft");
  item.text.textContent = seen.text || "(no answer)";
  if (sentences.length) item.text.replaceChildren(...marked(seen.text, sentences, item.number));
  if (sentences.some((one) => !one.supported)) item.box.append(make("p", "note", "Underlined: not in the documents."));
  if (quoted) item.box.append(make("p", "note", "The documents did not bear out what the model wrote; this is what they say."));
  citations.forEach((citation, index) => item.box.append(opened(citation, index, item.number)));
  messages.push({ role: "assistant", content: seen.text });
  follow();
}

// Offsets count characters, as Python does; a JavaScript string counts halves of some of them.
function marked(text, sentences, number) {
  const characters = Array.from(text), parts = [];
  let last = 0;
  for (const one of sentences) {
    parts.push(characters.slice(last, one.start).join(""));
    parts.push(make("span", one.supported ? "" : "unsupported", characters.slice(one.start, one.end).join("")));
    if (one.citation !== null) parts.push(reference(one.citation, number));
    last = one.end;
  }
  return [...parts, characters.slice(last).join("")];
}

function reference(index, number) {
  const raised = make("sup"), link = make("a", "", `[${index + 1}]`);
  link.href = `#source-${number}-${index}`;
  link.setAttribute("aria-label", `Source ${index + 1}`);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const source = at(`source-${number}-${index}`);
    source.open = true;
    source.querySelector("summary").focus();
    source.scrollIntoView({ block: "nearest" });
  });
  raised.append(link);
  return raised;
}

function opened(citation, index, number) {
  const box = make("details"), text = make("p", "text");
  box.id = `source-${number}-${index}`;
  const page = citation.page ? `, page ${citation.page}` : "";
  const place = `[${index + 1}] ${citation.source}, ${citation.section}${page}`;
  const passage = Array.from(citation.passage || citation.text);
  const start = citation.passage ? citation.start - citation.passage_start : 0;
  const end = start + citation.end - citation.start;
  text.append(
    passage.slice(0, start).join(""),
    make("mark", "", passage.slice(start, end).join("")),
    passage.slice(end).join(""),
  );
  box.append(make("summary", "", place), text);
  return box;
}

function follow() {
  const view = document.querySelector("main");
  view.scrollTop = view.scrollHeight;
}

function busy(yes) {
  at("send").hidden = yes;
  at("stop").hidden = !yes;
  log.setAttribute("aria-busy", yes);
  if (yes) tell("Answering …");
  else field.focus();
}

// --- what the person does -----------------------------------------------------------------------------------------

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = field.value.trim();
  if (!question || running || chooser.disabled) return;
  field.value = "";
  ask(question);
});
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("ask").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
at("stop").addEventListener("click", () => running?.abort());
at("new").addEventListener("click", () => {
  running?.abort();
  messages = [];
  log.replaceChildren();
  tell("A new chat.");
  field.focus();
});
listModels()
  .then(() => tell(""))
  .catch((error) => tell(error.message, true));
