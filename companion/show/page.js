// A panel's other home, a page without a kernel: a film shows pictures drawn beforehand, a program is run
// here, operation by operation, as PyTorch recorded it. Works from a file, loads nothing from elsewhere.

const companion = {waiting: {}, give: (name, data) => companion.waiting[name](data)};

function companionFilm({film, size: [width, height], columns, numbers, counts, texts}, controls) {
  const sheet = new Image();
  sheet.src = film;
  return async (values) => {
    await sheet.decode();
    let state = 0;
    controls.forEach(({name, low, step}, k) => {
      state = state * counts[k] + Math.round((values[name] - low) / step);
    });
    const n = numbers[state];
    const box = [(n % columns) * width, Math.floor(n / columns) * height, width, height];
    return {picture: sheet, box, readout: texts[state]};
  };
}

function companionProgram({program: {steps, result, words, arrays}}, controls) {
  const constants = arrays.map(companionArray);
  const run = (values) => { // the picture and the numbers, as tensors
    const made = [];
    const given = (x) => {
      if (Array.isArray(x)) return x.map(given);
      return x && typeof x === "object" ? (x.at < 0 ? constants[-1 - x.at] : made[x.at]) : x;
    };
    let inputs = 0;
    for (const [name, args, shape] of steps) {
      if (name !== "input") made.push(companionOperations[name](shape, ...given(args)));
      else {
        const {name: control, values: options} = controls[inputs++];
        made.push(tensor([], [options ? options[values[control]] : values[control]]));
      }
    }
    return given(result);
  };
  const answer = async (values) => {
    const [image, ...numbers] = run(values);
    return {picture: pixels(image), readout: said(words, numbers.map((x) => x.data[0]))};
  };
  return Object.assign(answer, {run});
}

const tensor = (shape, data) => ({shape, data});
const size = (shape) => shape.reduce((a, b) => a * b, 1);

// [shape, kind, base64] as a tensor; half precision is unpacked, for few browsers have it.
function companionArray([shape, kind, text]) {
  const {buffer} = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  if (kind !== "float16") return tensor(shape, kind === "int32" ? new Int32Array(buffer) : new Float32Array(buffer));
  return tensor(shape, Float32Array.from(new Uint16Array(buffer), (h) => {
    const sign = h >> 15 ? -1 : 1, exponent = (h >> 10) & 31, rest = h & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -24 * rest);
  }));
}

// An image (C, H, W) in [0, 1] as the canvas takes it.
function pixels({shape: [channels, height, width], data}) {
  const picture = new ImageData(width, height), area = height * width;
  for (let k = 0; k < area; k++) {
    for (let c = 0; c < 3; c++) picture.data[4 * k + c] = Math.round(255 * Math.min(1, Math.max(0, data[(c % channels) * area + k])));
    picture.data[4 * k + 3] = 255;
  }
  return picture;
}

// Python's format of a few numbers: {:.0f}, {:.2f}, {:.0%}.
function said(words, numbers) {
  let n = 0;
  return words.replace(/\{:\.(\d)([f%])\}/g, (_, digits, kind) => {
    const value = numbers[n++] * (kind === "%" ? 100 : 1);
    return value.toFixed(digits) + (kind === "%" ? "%" : "");
  });
}

// The place in an array of `shape` of each number of an array of `into`, to which it is broadcast.
function broadcast(shape, into) {
  const places = new Int32Array(size(into));
  let stride = 1, inner = 1;
  for (let k = into.length - 1; k >= 0; k--) {
    const long = shape[k - into.length + shape.length] ?? 1;
    if (long > 1) for (let i = 0; i < places.length; i++) places[i] += stride * (Math.floor(i / inner) % long);
    stride *= long;
    inner *= into[k];
  }
  return places;
}

const scalar = (x) => (typeof x === "object" ? x : tensor([], [Number(x)]));

function each(f) {
  return (shape, ...given) => {
    const sources = given.map(scalar), out = new Float32Array(size(shape));
    const places = sources.map((x) => (x.data.length === out.length || x.data.length === 1 ? null : broadcast(x.shape, shape)));
    const [a, b, c] = sources.map((x, k) => {
      const {data} = x, at = places[k];
      return at ? (i) => data[at[i]] : data.length === 1 ? () => data[0] : (i) => data[i];
    });
    if (!b) for (let i = 0; i < out.length; i++) out[i] = f(a(i));
    else if (!c) for (let i = 0; i < out.length; i++) out[i] = f(a(i), b(i));
    else for (let i = 0; i < out.length; i++) out[i] = f(a(i), b(i), c(i));
    return tensor(shape, out);
  };
}

// Fold an axis (or all): [rows outside, length, stride inside] of the array.
function fold(f, start) {
  return (shape, {shape: from, data}, axis) => {
    axis = Array.isArray(axis) ? axis[0] : axis;
    const all = axis === undefined, k = all ? 0 : (axis + from.length) % from.length;
    const long = all ? data.length : from[k], inner = all ? 1 : size(from.slice(k + 1));
    const out = new Float32Array(size(shape)).fill(start);
    for (let i = 0; i < out.length; i++) {
      const first = Math.floor(i / inner) * inner * long + (i % inner);
      out[i] = f(data, first, inner, long);
    }
    return tensor(shape, out);
  };
}

const total = (data, first, step, long) => {
  let sum = 0;
  for (let i = 0; i < long; i++) sum += data[first + i * step];
  return sum;
};
const place = (data, first, step, long) => {
  let best = 0;
  for (let i = 1; i < long; i++) if (data[first + i * step] > data[first + best * step]) best = i;
  return best;
};

// out (M, N) += a (M, K) b (K, N), four of K at a time.
function multiply(out, a, b, M, K, N) {
  for (let i = 0; i < M; i++) {
    const row = out.subarray(i * N, i * N + N);
    let k = 0;
    for (; k + 4 <= K; k += 4) {
      const p = a[i * K + k], q = a[i * K + k + 1], r = a[i * K + k + 2], s = a[i * K + k + 3];
      let w = k * N, x = w + N, y = x + N, z = y + N;
      for (let j = 0; j < N; j++) row[j] += p * b[w++] + q * b[x++] + r * b[y++] + s * b[z++];
    }
    for (; k < K; k++) for (let j = 0; j < N; j++) row[j] += a[i * K + k] * b[k * N + j];
  }
  return out;
}

// For each tap of a kernel and place of the smaller grid, the place in the larger one; f(column, place).
function taps([high, wide], [outHigh, outWide], [kh, kw], [sy, sx], [py, px], [dy, dx], f) {
  for (let ky = 0; ky < kh; ky++) for (let kx = 0; kx < kw; kx++) {
    for (let y = 0; y < outHigh; y++) {
      const row = y * sy - py + ky * dy;
      if (row < 0 || row >= high) continue;
      for (let x = 0; x < outWide; x++) {
        const column = x * sx - px + kx * dx;
        if (column >= 0 && column < wide) f((ky * kw + kx) * outHigh * outWide + y * outWide + x, row * wide + column);
      }
    }
  }
}

function convolution(shape, input, weight, bias, stride, padding, dilation, transposed, _, groups) {
  const [count, channels, ...from] = input.shape, [, made, ...to] = shape, kernel = weight.shape.slice(2);
  const area = size(from), outArea = size(to), k = size(kernel), out = new Float32Array(size(shape));
  const deep = channels / groups, wide = made / groups;
  const [small, large] = transposed ? [from, to] : [to, from];
  if (transposed && !weight.turned) weight.turned = turned(weight.data, channels, wide * k, deep);
  for (let n = 0; n < count * groups; n++) {
    const g = n % groups, base = Math.floor(n / groups);
    const source = input.data.subarray((base * channels + g * deep) * area, (base * channels + (g + 1) * deep) * area);
    const target = out.subarray((base * made + g * wide) * outArea, (base * made + (g + 1) * wide) * outArea);
    if (transposed) {
      const own = weight.turned.subarray(g * deep * wide * k, (g + 1) * deep * wide * k);
      const columns = multiply(new Float32Array(wide * k * area), own, source, wide * k, deep, area);
      taps(large, small, kernel, stride, padding, dilation, (column, place) => {
        for (let c = 0; c < wide; c++) target[c * outArea + place] += columns[c * k * area + column];
      });
    } else {
      const columns = new Float32Array(deep * k * outArea);
      taps(large, small, kernel, stride, padding, dilation, (column, place) => {
        for (let c = 0; c < deep; c++) columns[c * k * outArea + column] = source[c * area + place];
      });
      const own = weight.data.subarray(g * wide * deep * k, (g + 1) * wide * deep * k);
      multiply(target, own, columns, wide, deep * k, outArea);
    }
    if (bias) for (let c = 0; c < wide; c++) {
      for (let i = 0; i < outArea; i++) target[c * outArea + i] += bias.data[g * wide + c];
    }
  }
  return tensor(shape, out);
}

// (K, N) in blocks of `deep` rows, each block as (N, deep).
function turned(data, K, N, deep) {
  const out = new Float32Array(data.length);
  for (let k = 0; k < K; k++) for (let n = 0; n < N; n++) {
    out[Math.floor(k / deep) * deep * N + n * deep + (k % deep)] = data[k * N + n];
  }
  return out;
}

function permute(shape, {shape: from, data}, axes) {
  const strides = axes.map((axis) => size(from.slice(axis + 1))), out = new Float32Array(data.length);
  const at = shape.map(() => 0);
  for (let i = 0, place = 0; i < out.length; i++) {
    out[i] = data[place];
    for (let k = shape.length - 1; k >= 0; k--) {
      place += strides[k];
      if (++at[k] < shape[k]) break;
      place -= strides[k] * shape[k];
      at[k] = 0;
    }
  }
  return tensor(shape, out);
}

// Parts of an axis, by their numbers, or of a range of it.
function taken(shape, {shape: from, data}, axis, numbers) {
  const k = (axis + from.length) % from.length, inner = size(from.slice(k + 1)), long = from[k];
  const outer = size(from.slice(0, k)), out = new Float32Array(outer * numbers.length * inner);
  let place = 0;
  for (let o = 0; o < outer; o++) for (const number of numbers) {
    const first = (o * long + (number < 0 ? number + long : number)) * inner;
    out.set(data.subarray ? data.subarray(first, first + inner) : data.slice(first, first + inner), place);
    place += inner;
  }
  return tensor(shape, out);
}

function cat(shape, parts, axis = 0) {
  const k = (axis + shape.length) % shape.length, out = new Float32Array(size(shape));
  const outer = size(shape.slice(0, k)), run = size(shape.slice(k));
  let first = 0;
  for (const {shape: own, data} of parts) {
    const block = size(own.slice(k));
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < block; i++) out[o * run + first + i] = data[o * block + i];
    }
    first += block;
  }
  return tensor(shape, out);
}

// Q(a, x), the upper incomplete gamma function over Γ(a): a series below a + 1, a continued fraction above.
function gammaQ(a, x) {
  if (x <= 0) return 1;
  const scale = Math.exp(a * Math.log(x) - x - logGamma(a));
  if (x < a + 1) {
    let term = 1 / a, sum = term;
    for (let n = 1; n < 500; n++) sum += term *= x / (a + n);
    return Math.max(0, 1 - scale * sum);
  }
  let b = x + 1 - a, c = 1e300, d = 1 / b, h = d;
  for (let n = 1; n < 500; n++) {
    const factor = -n * (n - a);
    b += 2;
    d = 1 / (factor * d + b);
    c = b + factor / c;
    h *= c * d;
  }
  return scale * h;
}

// log Γ(a) by Stirling's series, from a + 10 down.
function logGamma(a) {
  let down = 0;
  for (; a < 10; a++) down += Math.log(a);
  return (a - 0.5) * Math.log(a) - a + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * a) - 1 / (360 * a ** 3) - down;
}

function lowerSolve(shape, {data: L}, {data: b}) {
  const n = shape[0], out = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    let sum = b[i];
    for (let k = 0; k < i; k++) sum -= L[i * n + k] * out[k];
    out[i] = sum / L[i * n + i];
  }
  return tensor(shape, out);
}

const even = (x) => { // PyTorch rounds halves to even numbers
  const down = Math.floor(x);
  return x - down === 0.5 ? 2 * Math.round(down / 2) : Math.round(x);
};
const same = (shape, {data}) => tensor(shape, data);
const mean = (...given) => {
  const sums = fold(total, 0)(...given);
  const count = given[1].data.length / sums.data.length;
  return tensor(sums.shape, sums.data.map((x) => x / count));
};

// Operations. Each takes the shape of its result, then PyTorch's arguments.
const companionOperations = {
  abs: each(Math.abs),
  add: each((a, b) => a + b),
  addmm: (shape, c, a, b) => tensor(shape, multiply(Float32Array.from(each((x) => x)(shape, c).data), a.data, b.data, ...a.shape, b.shape[1])),
  amax: fold((data, first, step, long) => data[first + step * place(data, first, step, long)], 0),
  argmax: fold(place, 0),
  bitwise_and: each((a, b) => a & b),
  cat,
  clamp_max: each(Math.min),
  clamp_min: each(Math.max),
  clamp: each((x, low, high) => Math.min(high, Math.max(low, x))),
  clone: same,
  convolution,
  detach: same,
  div: each((a, b) => a / b),
  eq: each((a, b) => a === b),
  exp: each(Math.exp),
  expand: (shape, x) => each((value) => value)(shape, x),
  ge: each((a, b) => a >= b),
  getitem: (_, list, number) => list[number],
  gt: each((a, b) => a > b),
  igammac: each(gammaQ),
  index: (shape, table, [numbers]) => taken(shape, table, 0, numbers.data),
  index_select: (shape, table, axis, numbers) => taken(shape, table, axis, numbers.data),
  le: each((a, b) => a <= b),
  linalg_solve_triangular: lowerSolve,
  log: each(Math.log),
  lt: each((a, b) => a < b),
  mean,
  mm: (shape, a, b) => tensor(shape, multiply(new Float32Array(size(shape)), a.data, b.data, ...a.shape, b.shape[1])),
  mul: each((a, b) => a * b),
  neg: each((x) => -x),
  permute,
  pow: each((x, n) => x ** n),
  relu: each((x) => Math.max(0, x)),
  round: each(even),
  rsub: each((a, b) => b - a),
  select: (shape, x, axis, number) => taken(shape, x, axis, [number]),
  sigmoid: each((x) => 1 / (1 + Math.exp(-x))),
  silu: each((x) => x / (1 + Math.exp(-x))),
  slice: (shape, x, axis = 0, first = 0, last = Infinity, step = 1) => {
    const long = x.shape[axis], numbers = [];
    for (let k = first < 0 ? first + long : first; k < Math.min(last < 0 ? last + long : last, long); k += step) numbers.push(k);
    return taken(shape, x, axis, numbers);
  },
  _softmax: (shape, x, axis) => {
    const top = companionOperations.amax([...shape.slice(0, axis), 1], x, axis);
    const risen = each((a, b) => Math.exp(a - b))(shape, x, top);
    return each((a, b) => a / b)(shape, risen, fold(total, 0)(top.shape, risen, axis));
  },
  squeeze: same,
  squeeze_: same,
  stack: (shape, parts, axis = 0) => {
    const lift = ({shape: own, data}) => tensor([...own.slice(0, axis), 1, ...own.slice(axis)], data);
    return cat(shape, parts.map(lift), axis);
  },
  sub: each((a, b) => a - b),
  sum: fold(total, 0),
  t: (shape, x) => permute(shape, x, [1, 0]),
  tanh: each(Math.tanh),
  _to_copy: same,
  unbind: (_, x, axis = 0) => Array.from({length: x.shape[axis]}, (__, k) => taken(x.shape.filter((___, i) => i !== axis), x, axis, [k])),
  unsqueeze: same,
  _unsafe_view: same,
  view: same,
  where: each((a, b, c) => (a ? b : c)),
};
// End of operations.

// Each panel of the page is built when it comes near the window.
function companionPages() {
  const near = new IntersectionObserver((entries) => {
    for (const {isIntersecting, target} of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      companion.waiting[target.dataset.panel] = (data) => {
        const answer = (data.film ? companionFilm : companionProgram)(data, data.about.controls);
        const root = document.createElement("div");
        companionPanel(root, data.about, answer);
        target.replaceWith(root);
      };
      document.head.append(Object.assign(document.createElement("script"), {src: target.dataset.source}));
    }
  }, {rootMargin: "600px"});
  const start = () => document.querySelectorAll("[data-panel]").forEach((still) => near.observe(still));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}
if (typeof document !== "undefined") companionPages();
