// A panel: controls, a picture, a readout. Two homes share this file: in Jupyter a kernel answers a
// move, on a page without one a film or a program does.

const companionStyle = `
.companion-panel {container-type: inline-size; color: inherit; font-size: 14px; line-height: 1.4}
.companion-panel .body {display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: flex-start}
.companion-panel .sight {display: flex; gap: 8px; max-width: 100%; min-width: 0}
.companion-panel .names {display: flex; flex-direction: column; justify-content: space-around}
.companion-panel canvas, .companion-panel .plane img {
  display: block; align-self: flex-start; max-width: 100%; min-width: 0; height: auto;
  image-rendering: pixelated}
.companion-panel .plane img {outline: 1px solid #8886}
.companion-panel .plane {position: relative; touch-action: none; cursor: crosshair; min-width: 0}
.companion-panel .mark {position: absolute; width: 14px; height: 14px; margin: -7px; border-radius: 7px;
  border: 2px solid #fff; background: #d00; box-sizing: border-box; pointer-events: none}
.companion-panel .controls {flex: 1 1 320px; max-width: 440px; min-width: 0}
.companion-panel .control {display: grid; grid-template-columns: 8.5em 1fr 5.5em; gap: 0 8px;
  align-items: center; min-height: 28px}
.companion-panel .control > * {min-width: 0; overflow-wrap: anywhere}
.companion-panel input[type=range] {appearance: none; width: 100%; height: 28px; margin: 0;
  background: none; touch-action: pan-y; cursor: pointer}
.companion-panel input[type=range]::-webkit-slider-runnable-track {height: 4px; border-radius: 2px; background: #8888}
.companion-panel input[type=range]::-moz-range-track {height: 4px; border-radius: 2px; background: #8888}
.companion-panel input[type=range]::-webkit-slider-thumb {appearance: none; width: 44px; height: 44px;
  margin-top: -20px; border: 14px solid transparent; border-radius: 22px; background: #0072b2 padding-box}
.companion-panel input[type=range]::-moz-range-thumb {width: 44px; height: 44px; box-sizing: border-box;
  border: 14px solid transparent; border-radius: 22px; background: #0072b2 padding-box}
.companion-panel :is(input, select, button):focus-visible {outline: 3px solid #d55e00; outline-offset: 1px}
.companion-panel :is(select, button) {font: inherit; color: inherit; background: #8882; min-height: 32px;
  border: 1px solid #8888; border-radius: 4px; padding: 2px 10px}
.companion-panel option {color: #000; background: #fff}
.companion-panel .buttons {display: flex; flex-wrap: wrap; gap: 8px; padding: 4px 0}
.companion-panel .readout {min-height: 1.4em}
@media (pointer: coarse) {
  .companion-panel .control, .companion-panel :is(select, button) {min-height: 44px}
  .companion-panel input[type=range] {height: 44px}
}
@container (max-width: 600px) {
  .companion-panel .sight {position: sticky; top: 0; z-index: 1; background: var(--jp-layout-color0, var(--pst-color-background, canvas))}
}`;

// Build a panel in `root` and draw it. about: what `Panel.about` of panel.py returns. answer(values): a
// promise of {picture: an image source or ImageData, box: [x, y, width, height] of it, readout}.
// Returns follow({values, picture, box, readout}), for a home that moves the panel by itself.
function companionPanel(root, about, answer) {
  const values = {}, controls = {}, pressed = {};
  const make = (tag, parent, props = {}) =>
    parent.appendChild(Object.assign(document.createElement(tag), props));
  root.classList.add("companion-panel");
  make("style", root, {textContent: companionStyle});
  const body = make("div", root, {className: "body"});
  const sight = make("div", body, {className: "sight"});
  const plane = about.plane && make("div", sight, {className: "plane"});
  if (about.rows.length) {
    const names = make("div", sight, {className: "names"});
    for (const textContent of about.rows) make("span", names, {textContent});
  }
  const canvas = make("canvas", sight);
  canvas.setAttribute("role", "img");
  const column = make("div", body, {className: "controls"});

  const words = ({name, words, digits}, value = values[name]) =>
    words ? words[value] : value.toFixed(digits);
  for (const control of about.controls) {
    values[control.name] = control.value;
    if (control.hidden) continue;
    const line = make("div", column, {className: "control"});
    const id = `companion-${Math.random().toString(36).slice(2)}`;
    make("label", line, {textContent: control.label, htmlFor: id});
    const input = make(control.menu ? "select" : "input", line, {id});
    if (control.menu) control.words.forEach((text, value) => make("option", input, {text, value}));
    else {
      const {low: min, high: max, step} = control;
      Object.assign(input, {type: "range", min, max, step});
      input.addEventListener("keydown", (event) => byKey(event, input));
    }
    input.addEventListener("input", () => move({[control.name]: Number(input.value)}));
    controls[control.name] = {control, input, said: make("output", line)};
  }
  const buttons = make("div", column, {className: "buttons"});
  for (const [name, moves] of Object.entries(about.buttons)) {
    pressed[name] = 0;
    const button = make("button", buttons, {type: "button", textContent: name});
    button.addEventListener("click", () => move(moves[pressed[name]++ % moves.length]));
  }
  const readout = make("div", column, {className: "readout"});
  const mark = plane && pressable(plane, about.plane, move, make);

  // The page around may keep arrow keys for itself (JupyterLab does), so the slider moves here.
  function byKey(event, input) {
    const steps = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10};
    const ends = {Home: input.min, End: input.max};
    if (event.key in ends) input.value = ends[event.key];
    else if (event.key in steps) input.value = Number(input.value) + steps[event.key] * input.step;
    else return;
    event.preventDefault();
    event.stopPropagation();
    input.dispatchEvent(new Event("input"));
  }

  let busy = false, again = false;
  async function move(moves) {
    Object.assign(values, moves);
    settle();
    again = true;
    if (busy) return; // what was asked meanwhile is drawn once, as it stands then
    busy = true;
    try {
      while (again) {
        again = false;
        show(await answer({...values}));
      }
    } finally {
      busy = false;
    }
  }

  function settle() {
    for (const {control, input, said} of Object.values(controls)) {
      input.value = values[control.name];
      if (control.menu) continue; // it says itself what is chosen
      said.textContent = words(control);
      input.setAttribute("aria-valuetext", words(control));
    }
    mark?.(values);
  }

  function show({picture, box, readout: text}) {
    const [x, y, width, height] = box ?? [0, 0, picture.width, picture.height];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
    const zoom = Math.max(1, Math.min(Math.round(about.height / height), Math.round(800 / width)));
    canvas.style.width = `${zoom * width}px`;
    const pen = canvas.getContext("2d");
    if (picture instanceof ImageData) pen.putImageData(picture, 0, 0);
    else pen.drawImage(picture, x, y, width, height, 0, 0, width, height);
    readout.textContent = text;
    const stand = Object.values(controls).map(({control}) => `${control.label} ${words(control)}`);
    const rows = about.rows.length ? `Rows: ${about.rows.join(", ")}.` : "";
    canvas.setAttribute("aria-label", `${about.text} ${rows} ${stand.join(", ")}. ${text}`);
  }

  move({});
  return (news) => {
    Object.assign(values, news.values);
    settle();
    show(news);
  };
}

// A map on which two values are chosen by pressing or dragging; returns what moves its mark.
function pressable(plane, {names: [across, up], low, high, picture, side}, move, make) {
  make("img", plane, {src: picture, alt: "", draggable: false}).style.width = `${side}px`;
  const mark = make("div", plane, {className: "mark"});
  const press = (event) => {
    const {left, bottom, width, height} = plane.getBoundingClientRect();
    const inside = (share) => Math.min(1, Math.max(0, share));
    const x = inside((event.clientX - left) / width), y = inside((bottom - event.clientY) / height);
    move({[across]: low[0] + x * (high[0] - low[0]), [up]: low[1] + y * (high[1] - low[1])});
  };
  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    press(event);
  });
  plane.addEventListener("pointermove", (event) => event.buttons && press(event));
  return (values) => {
    mark.style.left = `${(100 * (values[across] - low[0])) / (high[0] - low[0])}%`;
    mark.style.bottom = `${(100 * (values[up] - low[1])) / (high[1] - low[1])}%`;
  };
}

// The home in Jupyter, as anywidget calls it: each move is sent to the kernel, which sends a picture back.
function render({model, el}) {
  let given = null; // resolves the answer that is waited for
  const asked = (values) => new Promise((resolve) => { given = resolve; model.send({values}); });
  const follow = companionPanel(el, model.get("about"), asked);
  model.on("msg:custom", async (news, [bytes]) => {
    const drawn = {...news, picture: await createImageBitmap(new Blob([bytes], {type: "image/png"}))};
    if (given) given(drawn);
    else follow(drawn); // moved by code in another cell
    given = null;
  });
}
