// The chat in the page: what the person writes goes to /chat together with the earlier turns, and the answer grows as
// its pieces arrive. All text enters the page as text nodes. The events are described in src/relay.rs.

const $ = (id) => document.getElementById(id);
const scroller = $("scroller");
const turns = $("turns");
const welcome = $("welcome");
const composer = $("composer");
const message = $("message");
const send = $("send");
const stop = $("stop");
const spoken = $("spoken");
const engine = $("engine");
const demo = $("demo");
const download = $("download");

/** What was said so far: {role, content}, oldest first. It lives as long as the page. */
let conversation = [];
/** Aborts the answer that is being written; null when none is. */
let running = null;

// Engine state in the header

const STATES = {
  ready: "Ready",
  loading: "The model is loading…",
  stopping: "The engine is stopping. Waiting for another one…",
  unreachable: "Waiting for the engine…",
  offline: "No connection to this site",
};

let poll = 0;

function showEngine(state) {
  if (engine.dataset.state === state) return;
  engine.dataset.state = state;
  engine.textContent = STATES[state] ?? "";
}

/** Says so when the model is only the engine's demo, and suggests what that one can answer. */
function showDemo(notice) {
  demo.textContent = notice ?? "";
  demo.hidden = !notice;
  $("demo-suggestions").hidden = !notice;
  $("suggestions").hidden = Boolean(notice);
}

/** Shows how far the download of the model is; without one, nothing. */
function showDownload(progress) {
  download.hidden = !progress;
  if (!progress) return;
  const { bytes, total, seconds_left: seconds } = progress;
  const megabytes = (count) => Math.round(count / 1e6).toLocaleString("en");
  let label = `The engine downloads its model: ${megabytes(bytes)} ${total ? `of ${megabytes(total)} ` : ""}MB`;
  if (seconds !== null) label += seconds < 90 ? `, about ${seconds} s left` : `, about ${Math.round(seconds / 60)} min left`;
  $("download-label").textContent = label;
  const bar = download.querySelector("progress");
  // Without a value the bar shows that something happens, but not how far it is.
  if (total) bar.value = bytes / total;
  else bar.removeAttribute("value");
}

/** Asks until the engine is ready. */
async function watchEngine() {
  clearTimeout(poll);
  let state = "offline";
  let progress = null;
  try {
    const response = await fetch("status", { cache: "no-store" });
    if (response.ok) {
      const status = await response.json();
      state = status.engine;
      progress = status.download;
      if (state === "ready") showDemo(status.demo_notice);
    }
  } catch {
    // Shown as offline, and asked again.
  }
  showEngine(state);
  showDownload(progress);
  if (state !== "ready") poll = setTimeout(watchEngine, progress ? 1000 : 2000);
}

// Scrolling: follow the answer, unless the person has scrolled up to read

function atBottom() {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
}

function scrollToBottom() {
  scroller.scrollTop = scroller.scrollHeight;
}

/** Changes the page, and keeps the end in view when it was. */
function following(change) {
  const follow = atBottom();
  change();
  if (follow) scrollToBottom();
}

// Turns

function clone(id) {
  return $(id).content.firstElementChild.cloneNode(true);
}

function addQuestion(text) {
  const turn = clone("question");
  turn.querySelector(".text").textContent = text;
  turns.append(turn);
}

/** An answer on the page, with the few things that can happen to it. */
function addAnswer() {
  const turn = clone("answer");
  const text = turn.querySelector(".text").appendChild(document.createTextNode(""));
  const pending = turn.querySelector(".pending");
  const reason = turn.querySelector(".reason");
  const note = turn.querySelector(".note");
  turns.append(turn);
  return {
    wait: (why) => following(() => (reason.textContent = why)),
    append: (piece) =>
      following(() => {
        pending.hidden = true;
        text.appendData(piece);
      }),
    finish: (remark) =>
      following(() => {
        pending.hidden = true;
        note.textContent = remark;
        note.hidden = !remark;
      }),
    fail(problem) {
      following(() => {
        pending.hidden = true;
        const failure = clone("failure");
        failure.querySelector("p").textContent = problem.message;
        // Asking the same again helps against trouble, not against a chat that is too long.
        const [useless, useful] = TOO_LONG.includes(problem.code) ? [".again", ".fresh"] : [".fresh", ".again"];
        failure.querySelector(useless).remove();
        failure.querySelector(useful).addEventListener("click", useful === ".fresh" ? newChat : again);
        turn.append(failure);
      });
    },
  };
}

/** What the server says when a chat has outgrown a limit. */
const TOO_LONG = ["context_exceeded", "body_too_large", "invalid_request"];

/** Answers the last question anew, in place of the answer that failed. */
function again() {
  if (conversation.at(-1).role === "assistant") conversation.pop();
  turns.lastElementChild.remove();
  answer();
}

/** Says text to screen readers in whole sentences. */
function speaker() {
  spoken.replaceChildren();
  let rest = "";
  const say = (sentence) => {
    if (!sentence.trim()) return;
    const line = document.createElement("p");
    line.textContent = sentence;
    spoken.append(line);
  };
  return {
    push(piece) {
      rest += piece;
      const end = Math.max(...[". ", "! ", "? ", "\n", "。"].map((mark) => rest.lastIndexOf(mark)));
      if (end < 0) return;
      say(rest.slice(0, end + 1));
      rest = rest.slice(end + 1);
    },
    finish(remark) {
      say(rest);
      say(remark);
    },
  };
}

// The answer's way from the server

/** A failure with a code and a message for people. */
class Problem extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

const CUT = new Problem("connection_lost", "The connection was lost before the answer was complete.");

/** Yields {event, data} for each server-sent event of a response. */
async function* serverEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const fields = {};
      for (const line of buffer.slice(0, end).split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      buffer = buffer.slice(end + 2);
      if (fields.event) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

async function ask(signal) {
  let response;
  try {
    response = await fetch("chat", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ messages: conversation }),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Problem("offline", "This site cannot be reached. Please check your connection.");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    const { code, message } = body?.error ?? {};
    throw new Problem(code ?? "unknown", message ?? `The server answered with status ${response.status}.`);
  }
  return response;
}

/** Gets and shows the next answer to the conversation. */
async function answer() {
  const controller = new AbortController();
  const view = addAnswer();
  const voice = speaker();
  let text = "";
  let firstPieceAt = 0;
  /** How it ended, when that is not as usual. */
  let remark = "";
  setRunning(controller);
  scrollToBottom();
  try {
    const response = await ask(controller.signal);
    let finished = false;
    for await (const { event, data } of serverEvents(response)) {
      if (event === "status") {
        showEngine(data.state);
        view.wait(data.state === "ready" ? "" : STATES[data.state]);
      } else if (event === "delta") {
        firstPieceAt ||= performance.now();
        text += data.text;
        view.append(data.text);
        voice.push(data.text);
      } else if (event === "error") {
        throw new Problem(data.error.code, data.error.message);
      } else if (event === "done") {
        finished = true;
        if (!text.trim()) remark = "The model had nothing to say.";
        if (data.finish_reason === "length") remark = "Stopped at the length limit.";
        view.finish(`${remark} ${speed(data.usage, firstPieceAt)}`.trim());
      }
    }
    if (!finished) throw CUT;
    showEngine("ready");
  } catch (error) {
    if (controller.signal.aborted) {
      remark = "Stopped.";
      view.finish(remark);
    } else {
      const problem = error instanceof Problem ? error : CUT;
      remark = problem.message;
      view.fail(problem);
      watchEngine();
    }
  }
  // After "New chat" this answer belongs to a conversation that is gone.
  if (running !== controller) return;
  voice.finish(remark);
  // A message without words would be refused when it is sent along.
  if (text.trim()) conversation.push({ role: "assistant", content: text });
  setRunning(null);
}

/** The tokens of a complete answer and their rate, from the arrival of the first one. */
function speed(usage, firstPieceAt) {
  const seconds = (performance.now() - firstPieceAt) / 1000;
  const tokens = usage?.completion_tokens ?? 0;
  if (tokens < 2 || !firstPieceAt || !seconds) return "";
  return `${tokens} tokens, ${((tokens - 1) / seconds).toFixed(1)} per second`;
}

// Controls

function setRunning(controller) {
  const hadFocus = document.activeElement === stop || document.activeElement === document.body;
  running = controller;
  stop.hidden = !running;
  send.hidden = Boolean(running);
  updateSend();
  if (hadFocus) message.focus();
}

function updateSend() {
  send.disabled = !message.value.trim();
}

function submit(text) {
  if (running || !text.trim()) return;
  welcome.hidden = true;
  // What failed earlier stays on the page, but only the last answer can be asked for again.
  for (const button of turns.querySelectorAll(".failure button")) button.remove();
  conversation.push({ role: "user", content: text });
  addQuestion(text);
  answer();
}

function newChat() {
  running?.abort();
  setRunning(null);
  conversation = [];
  turns.replaceChildren();
  spoken.replaceChildren();
  welcome.hidden = false;
  message.focus();
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  const text = message.value;
  message.value = "";
  fit();
  submit(text);
  message.focus();
});

message.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it (keyCode 229: Safari).
  const composing = event.isComposing || event.keyCode === 229;
  if (event.key === "Enter" && !event.shiftKey && !composing) {
    event.preventDefault();
    composer.requestSubmit();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) running?.abort();
});

/** Grows the box with its text, where CSS (field-sizing) does not. */
function fit() {
  updateSend();
  if (CSS.supports("field-sizing", "content")) return;
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight + 2}px`;
}

message.addEventListener("input", fit);
stop.addEventListener("click", () => running?.abort());
$("new-chat").addEventListener("click", newChat);
for (const suggestion of document.querySelectorAll(".suggestion")) {
  suggestion.addEventListener("click", () => {
    submit(suggestion.textContent);
    message.focus();
  });
}

fit();
message.focus();
watchEngine();
