
"use strict";
// The script of the page for giving labels. It works on the JSON in #data:
//   images: [{name, label, chosen, guess, source}], label: what the image had at the beginning, source: offline only
//   classes: names; none: label of an image that fits none; labels: what the images have now
//   token: of the server; or, offline, key: under which the browser keeps the answers, and file: name of the download
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const offline = data.key !== undefined;
const FEW = 9; // classes with a key each
const many = data.classes.length > FEW;
const TINY = 96; // pixels; smaller images are enlarged without smoothing
let labels = data.labels;
let index = -1; // of the image that is shown; images.length: none
let expected = ""; // label that the image had when it was shown
let ready = false; // whether the image can be seen, and no answer is on its way
let broken = false; // whether the image cannot be read
const history = []; // answers of this window: {index, before, after}
const done = new Set(); // images that this window has answered
const pictures = new Map(); // index → image element, loaded before it is needed

// Where answers go: the server, or the browser's storage. Both return {labels} or {labels, conflict} or {error}; the server also
// {labels, problem}, where the answer is saved, but something failed after it.

async function post(at, label, before) {
  try {
    const reply = await fetch("answer", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Token": data.token },
      body: JSON.stringify({ index: at, label, expected: before }),
    });
    if (reply.status === 403) return { error: "this window belongs to a server that has ended" };
    const said = await reply.json();
    return { ...said, conflict: reply.status === 409 };
  } catch {
    return { error: "the server does not answer; start `quarterturn label` again and open its new address" };
  }
}

let kept = {}; // answers offline, by name
let unkept = false; // whether the browser's storage failed last, so that only this page has the answers
const UNKEPT = "This browser keeps nothing: save the answers as CSV before you close the page.";

function stored() {
  try {
    if (!unkept) kept = JSON.parse(localStorage.getItem(data.key) || "{}");
  } catch {
    unkept = true;
    say(UNKEPT, true);
  }
  return data.images.map((each) => kept[each.name] ?? each.label);
}

function keep(at, label, before) {
  const now = stored();
  if (now[at] !== before && now[at] !== label) return { labels: now, conflict: true };
  kept[data.images[at].name] = label;
  try {
    localStorage.setItem(data.key, JSON.stringify(kept));
    unkept = false;
  } catch {
    unkept = true;
  }
  return { labels: data.images.map((each) => kept[each.name] ?? each.label) };
}

async function refresh() {
  if (offline) {
    labels = stored();
  } else {
    try {
      const reply = await fetch("labels", { headers: { "X-Token": data.token } });
      if (reply.ok) labels = (await reply.json()).labels;
    } catch {
      return; // the next answer tells
    }
  }
  if (ready && index < data.images.length && labels[index] !== expected) answeredElsewhere();
  tell();
}

// Which image is next.

const isPending = (at) => !done.has(at) && labels[at] === data.images[at].label;
const named = (label) => (label === data.none ? "not one of these" : label);

function following(from) {
  for (let at = from; at < data.images.length; at++) if (isPending(at)) return at;
  return data.images.length;
}

function picture(at) {
  if (!pictures.has(at)) {
    const image = new Image();
    image.src = offline ? data.images[at].source : `image?index=${at}&token=${encodeURIComponent(data.token)}`;
    pictures.set(at, image);
  }
  return pictures.get(at);
}

async function show(at) {
  ready = broken = false;
  index = at;
  tell();
  const over = at === data.images.length;
  document.querySelector("figure").hidden = over;
  $("answers").classList.toggle("over", over);
  $("end").hidden = !over;
  for (const button of document.querySelectorAll("#classes button, #none, #skip")) button.disabled = over;
  if (over) return finish();
  expected = labels[at];
  const { name } = data.images[at];
  const image = picture(at);
  image.alt = `Image to label: ${name}`;
  $("frame").replaceChildren(image);
  $("name").textContent = name;
  describe();
  try {
    await image.decode();
  } catch {
    broken = true;
  }
  if (index !== at) return; // another one is shown by now
  if (broken) await explain(at);
  image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= TINY);
  ready = true;
  for (const old of pictures.keys()) if (old < at - 1 || old > at + 9) pictures.delete(old);
  const next = following(at + 1);
  if (next < data.images.length) picture(next);
}

async function explain(at) {
  let reason = "";
  try {
    reason = await (await fetch(picture(at).src)).text();
  } catch {
    reason = "it cannot be had";
  }
  pictures.delete(at);
  $("frame").replaceChildren(`${data.images[at].name} cannot be shown: ${reason}`);
  say("This image cannot be shown; skip it.", true);
}

function describe() {
  const { guess } = data.images[index];
  const parts = expected ? [`Label now: ${named(expected)}.`] : [];
  if (guess) parts.push(`The model says ${guess}.`);
  $("known").textContent = parts.join(" ");
  for (const button of $("classes").children) {
    button.toggleAttribute("aria-current", false);
    if (button.dataset.label === expected) button.setAttribute("aria-current", "true");
  }
}

function finish() {
  const skipped = data.images.filter((_, at) => isPending(at)).length;
  const next = offline ? "Save the answers as CSV below." : "Stop the server with Ctrl-C, then run: make repro";
  $("summary").textContent = skipped
    ? `${skipped} of ${data.images.length} images were skipped. ${next}`
    : `All ${data.images.length} images have been answered. ${next}`;
  $("again").hidden = !skipped;
  $("known").textContent = "";
  $("end").focus();
}

// What people do.

async function answer(label) {
  if (!ready || broken) return;
  ready = false;
  const at = index;
  const before = expected;
  const said = offline ? keep(at, label, before) : await post(at, label, before);
  if (said.labels) labels = said.labels;
  if (said.error || said.conflict) {
    ready = true;
    if (said.conflict) answeredElsewhere();
    else say(`Not saved: ${said.error}.`, true);
    return;
  }
  done.add(at);
  history.push({ index: at, before, after: label });
  clearFilter();
  await show(following(at + 1));
  if (unkept) say(UNKEPT, true);
  else if (said.problem) say(`Saved, but ${said.problem}.`, true);
  else say(`Saved: ${named(label)}.` + (index < data.images.length ? ` Next: ${data.images[index].name}` : ""));
}

function answeredElsewhere() {
  expected = labels[index];
  describe();
  const now = expected ? `was answered in another window: ${named(expected)}` : "lost its label in another window";
  say(`This image ${now}. Answer again to replace it, or skip.`, true);
  tell();
}

async function skip() {
  if (!ready) return;
  await show(following(index + 1));
  say(index < data.images.length ? `Skipped. Next: ${data.images[index].name}` : "Skipped.");
}

async function undo() {
  const over = index === data.images.length;
  if ((!ready && !over) || !history.length) return;
  ready = false;
  const last = history[history.length - 1];
  const said = offline ? keep(last.index, last.before, last.after) : await post(last.index, last.before, last.after);
  if (said.labels) labels = said.labels;
  if (said.error) {
    ready = !over;
    say(`Not undone: ${said.error}.`, true);
    return;
  }
  history.pop();
  done.delete(last.index);
  await show(last.index);
  if (said.conflict) answeredElsewhere();
  else say(`Undone: ${named(last.after)}, ${data.images[last.index].name}`);
}

function tell() {
  const count = data.images.filter((_, at) => !isPending(at)).length;
  $("count").textContent = `${count} of ${data.images.length}`;
  $("progress").max = data.images.length;
  $("progress").value = count;
  $("undo").disabled = !history.length;
}

function say(text, problem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", problem);
}

function download() {
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  stored();
  const rows = data.images.filter((each) => kept[each.name]);
  const lines = rows.map((each) => [each.name, kept[each.name], each.chosen].map(cell).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([["path,label,chosen", ...lines, ""].join("\n")], { type: "text/csv" }));
  link.download = data.file;
  link.click();
  say(`${rows.length} answers saved as ${data.file}.`);
}

// Classes: a button each; the first nine have keys. With more of them, typing finds one.

function shownClasses() {
  return [...$("classes").children].filter((button) => !button.hidden);
}

function applyFilter() {
  const wanted = $("filter").value.trim().toLowerCase();
  for (const button of $("classes").children) {
    button.hidden = !button.dataset.label.toLowerCase().includes(wanted);
    button.querySelector("kbd")?.remove();
    button.removeAttribute("aria-keyshortcuts");
  }
  // A name that begins with the text comes first.
  const begins = (button) => !button.dataset.label.toLowerCase().startsWith(wanted);
  const order = wanted ? shownClasses().sort((one, other) => begins(one) - begins(other)) : sorted;
  $("classes").append(...order);
  // While a name is being typed, digits belong to it, and Enter takes the first class.
  shownClasses().slice(0, wanted ? 1 : FEW).forEach((button, number) => {
    const key = document.createElement("kbd");
    key.textContent = wanted ? "Enter" : number + 1;
    key.ariaHidden = "true";
    button.append(key);
    button.setAttribute("aria-keyshortcuts", key.textContent);
  });
}

function clearFilter() {
  if (!$("filter").value) return;
  $("filter").value = "";
  applyFilter();
}

const sorted = data.classes.map((label) => {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.label = label;
  button.textContent = label;
  return button;
});

// A button that was clicked must not keep the focus: the next space would press it again.
function on(button, action) {
  button.addEventListener("click", (event) => {
    if (event.detail) button.blur();
    action();
  });
}

$("classes").append(...sorted);
sorted.forEach((button) => on(button, () => answer(button.dataset.label)));
on($("none"), () => answer(data.none));
on($("skip"), skip);
on($("undo"), undo);
on($("again"), () => show(following(0)));
on($("download"), download);
$("download").hidden = !offline;
$("filter").hidden = !many;
$("filter").addEventListener("input", applyFilter);
if (many) {
  // Letters find a class, so none of them may be an answer.
  for (const [id, key, name] of [["none", "0", "0"], ["skip", "space", "Space"], ["undo", "Ctrl Z", "Control+z"]]) {
    $(id).querySelector("kbd").textContent = key;
    $(id).setAttribute("aria-keyshortcuts", name);
  }
}

document.addEventListener("keydown", (event) => {
  const typing = event.target === $("filter");
  const text = typing && $("filter").value !== "";
  if (event.repeat || event.altKey || event.isComposing) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !text && !event.shiftKey) {
    event.preventDefault();
    undo();
  } else if (event.ctrlKey || event.metaKey) {
    return;
  } else if (typing && event.key === "Enter") {
    const [first] = shownClasses();
    if (text && first) answer(first.dataset.label);
  } else if (typing && event.key === "Escape") {
    clearFilter();
    $("filter").blur();
  } else if (!$("keys").checked || text) {
    return;
  } else if (/^[1-9]$/.test(event.key)) {
    const button = shownClasses()[event.key - 1];
    if (!button) return;
    event.preventDefault();
    answer(button.dataset.label);
  } else if (event.key === " " && (typing || event.target === document.body || event.target === $("end"))) {
    event.preventDefault();
    skip();
  } else if (event.key === "0") {
    event.preventDefault();
    answer(data.none);
  } else if (many) {
    if (!typing && event.key.length === 1 && event.key !== " ") $("filter").focus(); // takes the letter, too
  } else if (!event.shiftKey) {
    const action = { s: skip, u: undo, n: () => answer(data.none) }[event.key];
    if (action) action();
  }
});
window.addEventListener("focus", refresh);
window.addEventListener("storage", refresh);

applyFilter();
if (offline) labels = stored();
show(following(0));
