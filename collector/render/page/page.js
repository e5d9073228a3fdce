
(function () {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const names = data.names, diff = data.diff, row = 18, character = 7.25;
  const byID = (id) => document.getElementById(id);

  // Nodes in depth-first order: [level, name, self, total] of one profile, and of the
  // other one [self, total] behind them. x and w are parts of the whole width.
  const width = diff ? 6 : 4;
  const nodes = [];
  const whole = [data.nodes[3] || 0, diff ? data.nodes[5] || 0 : 0];
  const share = (v, side) => (whole[side] ? v / whole[side] : 0);
  const sides = (whole[0] ? 1 : 0) + (whole[1] ? 1 : 0) || 1;
  const size = (self, right) => (diff ? (share(self, 0) + share(right, 1)) / sides : share(self, 0));
  const next = [];
  let levels = 0;
  for (let i = 0; i < data.nodes.length; i += width) {
    const [level, name, self, total, selfRight = 0, totalRight = 0] = data.nodes.slice(i, i + width);
    const w = size(total, totalRight);
    const x = level ? next[level - 1] : 0;
    if (level) next[level - 1] += w;
    next.length = level;
    next.push(x + size(self, selfRight));
    nodes.push({ level, name, self, total, selfRight, totalRight, x, w });
    levels = Math.max(levels, level + 1);
  }

  // Values as text, as pkg/profile's FormatValue writes them.
  const scales = {
    time: [[1, 'ns'], [1e3, 'µs'], [1e6, 'ms'], [1e9, 's'], [60e9, 'min'], [3600e9, 'h'], [86400e9, 'd']],
    bytes: [[1, 'B'], [1024, 'KiB'], [1048576, 'MiB'], [2 ** 30, 'GiB'], [2 ** 40, 'TiB'], [2 ** 50, 'PiB']],
    count: [[1, ''], [1e3, 'k'], [1e6, 'M'], [1e9, 'G'], [1e12, 'T']],
  };
  function format(v) {
    v *= data.size;
    let step = scales[data.dimension][0];
    for (const s of scales[data.dimension]) if (Math.abs(v) >= s[0]) step = s;
    const n = v / step[0], a = Math.abs(n);
    const digits = step[0] === 1 ? 0 : a < 9.995 ? 2 : a < 99.95 ? 1 : 0;
    return (n.toFixed(digits) + ' ' + step[1]).trim() + (data.dimension === 'count' && data.unit ? ' ' + data.unit : '');
  }
  const percent = (v) => (100 * v).toFixed(2) + '%';
  const signed = (v) => (v > 0 ? '+' : '') + percent(v);

  // Colours. A function's depends on its name; a difference's on how the share changed.
  function hash(s) {
    let h = 2166136261;
    for (let i = 0; i < s.length; i++) h = Math.imul(h ^ s.charCodeAt(i), 16777619);
    return h >>> 0;
  }
  function colour(n) {
    if (n.level === 0 && !diff) return '#d9d9d9';
    if (!diff) {
      const h = hash(names[n.name]);
      return 'hsl(' + (data.hue + (h % data.hues)) + ',' + (72 + ((h >>> 8) % 20)) + '%,' + (62 + ((h >>> 16) % 14)) + '%)';
    }
    const l = share(n.total, 0), r = share(n.totalRight, 1), c = l + r ? (r - l) / (r + l) : 0;
    const mix = (from, to) => Math.round(from + Math.abs(c) * (to - from));
    return c > 0 ? 'rgb(' + [mix(230, 240), mix(230, 80), mix(230, 60)] + ')' : 'rgb(' + [mix(230, 74), mix(230, 144), mix(230, 226)] + ')';
  }

  const canvas = byID('flame'), c = canvas.getContext('2d');
  let zoomed = nodes[0], pattern = null, shown = [];

  function draw() {
    shown = [];
    const space = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
    const deepest = nodes.reduce((d, n) => (inZoom(n) && n.w / zoomed.w * space >= 0.3 ? Math.max(d, n.level) : d), 0);
    canvas.style.height = (deepest + 1) * row + 'px';
    canvas.width = Math.round(space * ratio);
    canvas.height = Math.round((deepest + 1) * row * ratio);
    if (!nodes.length || !zoomed.w) return;
    c.scale(ratio, ratio);
    c.font = '12px monospace';
    for (const n of nodes) {
      let x = (n.x - zoomed.x) / zoomed.w * space, w = n.w / zoomed.w * space;
      const above = n.level < zoomed.level;
      if (above) {
        if (!holds(n, zoomed)) continue;
        x = 0;
        w = space;
      } else if (!inZoom(n) || w < 0.3) continue;
      const hit = pattern && n.level > 0 && pattern.test(names[n.name]);
      c.globalAlpha = above ? 0.5 : 1;
      c.fillStyle = hit ? '#e600e6' : colour(n);
      c.fillRect(x, n.level * row, Math.max(w - 0.5, 0.3), row - 1);
      const text = fit(names[n.name], w);
      if (text) {
        c.fillStyle = hit ? '#fff' : '#111';
        c.fillText(text, x + 3, n.level * row + 13);
      }
      shown.push({ n, x, w });
    }
  }
  const slack = 1e-12;
  const holds = (a, b) => a.x <= b.x + slack && a.x + a.w >= b.x + b.w - slack;
  const inZoom = (n) => n.level < zoomed.level ? holds(n, zoomed) : holds(zoomed, n);
  function fit(s, w) {
    const room = Math.floor((w - 6) / character), chars = Array.from(s);
    if (chars.length <= room) return s;
    return room < 3 ? '' : chars.slice(0, room - 1).join('') + '…';
  }

  function at(e) {
    const box = canvas.getBoundingClientRect(), x = e.clientX - box.left, level = Math.floor((e.clientY - box.top) / row);
    return shown.find((s) => s.n.level === level && x >= s.x && x < s.x + Math.max(s.w, 1));
  }
  function describe(n) {
    const l = share(n.total, 0), r = share(n.totalRight, 1);
    if (!diff) return names[n.name] + '\n' + format(n.total) + ' (' + percent(l) + ')\nself ' + format(n.self) + ' (' + percent(share(n.self, 0)) + ')';
    return names[n.name] + '\nleft ' + format(n.total) + ' (' + percent(l) + ')\nright ' + format(n.totalRight) + ' (' + percent(r) + ')\n' + signed(r - l);
  }
  canvas.addEventListener('mousemove', (e) => {
    const s = at(e), tip = byID('tip');
    tip.hidden = !s;
    if (!s) return;
    tip.textContent = describe(s.n);
    tip.style.left = Math.min(e.clientX + 12, window.innerWidth - tip.offsetWidth - 8) + 'px';
    tip.style.top = e.clientY + 16 + 'px';
  });
  canvas.addEventListener('mouseleave', () => { byID('tip').hidden = true; });
  canvas.addEventListener('click', (e) => { const s = at(e); if (s) zoom(s.n); });
  function zoom(n) {
    zoomed = n;
    byID('reset').hidden = n === nodes[0];
    draw();
    matched();
  }
  byID('reset').addEventListener('click', () => zoom(nodes[0]));

  // The share of the outermost matches in what is shown.
  function matched() {
    let sum = 0, end = -1;
    if (pattern) {
      for (const n of nodes) {
        if (n.level < 1 || n.level < zoomed.level || !inZoom(n) || n.x < end - slack || !pattern.test(names[n.name])) continue;
        sum += n.w;
        end = n.x + n.w;
      }
    }
    byID('matched').textContent = pattern ? 'matched: ' + percent(Math.min(sum / (zoomed.w || 1), 1)) : '';
  }
  function search(source) {
    const input = byID('search');
    input.value = source;
    try {
      pattern = source ? new RegExp(source) : null;
      input.setCustomValidity('');
    } catch (e) {
      input.setCustomValidity(e.message);
      byID('matched').textContent = e.message;
      return;
    }
    draw();
    matched();
    list();
  }
  byID('search').addEventListener('input', (e) => search(e.target.value));
  window.addEventListener('keydown', (e) => {
    if ((e.ctrlKey || e.metaKey) && e.key === 'f' || e.key === '/' && e.target !== byID('search')) {
      e.preventDefault();
      byID('search').focus();
    } else if (e.key === 'Escape') {
      search('');
      zoom(nodes[0]);
    }
  });

  // The table: values per function, recursion counted once.
  const functions = new Map();
  const open = [], stack = [];
  for (const n of nodes) {
    while (stack.length && stack[stack.length - 1].level >= n.level) open[stack.pop().name]--;
    if (n.level > 0) {
      let f = functions.get(n.name);
      if (!f) functions.set(n.name, (f = { name: names[n.name], self: 0, total: 0, selfRight: 0, totalRight: 0 }));
      f.self += n.self;
      f.selfRight += n.selfRight;
      if (!open[n.name]) {
        f.total += n.total;
        f.totalRight += n.totalRight;
      }
    }
    open[n.name] = (open[n.name] || 0) + 1;
    stack.push(n);
  }
  const change = (f) => share(f.selfRight, 1) - share(f.self, 0);
  const changeTotal = (f) => share(f.totalRight, 1) - share(f.total, 0);
  const value = (of, side) => (f) => format(f[of]) + ' (' + percent(share(f[of], side)) + ')';
  const columns = diff
    ? [['Function', (f) => f.name, (f) => f.name], ['Self, left', (f) => f.self, value('self', 0)], ['Self, right', (f) => f.selfRight, value('selfRight', 1)],
      ['Self, change', (f) => Math.abs(change(f)), (f) => signed(change(f))], ['Total, left', (f) => f.total, value('total', 0)],
      ['Total, right', (f) => f.totalRight, value('totalRight', 1)], ['Total, change', (f) => Math.abs(changeTotal(f)), (f) => signed(changeTotal(f))]]
    : [['Function', (f) => f.name, (f) => f.name], ['Self', (f) => f.self, value('self', 0)], ['Total', (f) => f.total, value('total', 0)]];
  let by = diff ? 3 : 1, ascending = false;
  const most = 500;
  function list() {
    const head = byID('head'), body = byID('rows');
    head.replaceChildren(...columns.map(([title], i) => {
      const th = document.createElement('th');
      th.textContent = title + (i === by ? (ascending ? ' ▲' : ' ▼') : '');
      th.addEventListener('click', () => {
        ascending = i === by ? !ascending : i === 0;
        by = i;
        list();
      });
      return th;
    }));
    const key = columns[by][1], sign = ascending ? 1 : -1;
    const found = [...functions.values()].filter((f) => !pattern || pattern.test(f.name));
    found.sort((a, b) => (key(a) < key(b) ? -sign : key(a) > key(b) ? sign : a.name < b.name ? -1 : 1));
    body.replaceChildren(...found.slice(0, most).map((f) => {
      const tr = document.createElement('tr');
      for (const [, , text] of columns) {
        const td = document.createElement('td');
        td.textContent = text(f);
        tr.append(td);
      }
      tr.addEventListener('click', () => search('^' + f.name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&') + '$'));
      return tr;
    }));
    byID('more').textContent = found.length > most ? 'and ' + (found.length - most) + ' more; search to find them' : '';
  }

  if (diff) {
    for (const [fill, text] of [['rgb(240,80,60)', 'more on the right'], ['rgb(74,144,226)', 'less on the right']]) {
      const i = document.createElement('i');
      i.style.background = fill;
      byID('legend').append(i, text);
    }
  }
  window.addEventListener('resize', draw);
  draw();
  list();
  window.flameline = { search, zoom: (i) => zoom(nodes[i]), functions: () => [...functions.values()] };
})();
