// The script of an interactive flame graph (pkg/profile/svg.go): click to zoom, search by
// regular expression, shares of what was found. Boxes are <g class="b"> in depth-first
// order; their attribute data-b has level, x and width in pixels of the whole graph.
(function () {
  'use strict';
  var svg = document.documentElement;
  var view = svg.viewBox.baseVal.width;
  var margin = 10, character = 7.32, narrowest = 0.1;
  var boxes = [], zoomed = null, pattern = null;
  var groups = document.getElementsByClassName('b');
  for (var i = 0; i < groups.length; i++) {
    var g = groups[i], d = g.getAttribute('data-b').split(',');
    var text = g.getElementsByTagName('text')[0];
    if (!text) {
      text = document.createElementNS('http://www.w3.org/2000/svg', 'text');
      text.setAttribute('y', Number(g.getElementsByTagName('rect')[0].getAttribute('y')) + 13);
      g.appendChild(text);
    }
    var title = g.getElementsByTagName('title')[0].textContent;
    var rect = g.getElementsByTagName('rect')[0];
    boxes.push({
      g: g, rect: rect, text: text, title: title, name: title.split('\n')[0], fill: rect.getAttribute('fill'),
      level: Number(d[0]), x: Number(d[1]), w: Number(d[2]),
    });
  }

  function fit(name, width) {
    var n = Math.floor((width - 6) / character), chars = Array.from(name);
    if (chars.length <= n) return name;
    return n < 3 ? '' : chars.slice(0, n - 1).join('') + '…';
  }

  // zoom makes a box as wide as the picture; null shows all.
  function zoom(to) {
    zoomed = to;
    var from = to ? to.x : margin, width = to ? to.w : view - 2 * margin;
    var scale = (view - 2 * margin) / width, slack = width * 1e-6;
    boxes.forEach(function (b) {
      var x = margin + (b.x - from) * scale, w = b.w * scale, shown = w >= narrowest, parent = false;
      if (to && b.level < to.level) {
        parent = shown = b.x <= to.x + slack && b.x + b.w >= to.x + to.w - slack;
        x = margin;
        w = view - 2 * margin;
      } else if (to) {
        shown = shown && b.x >= from - slack && b.x + b.w <= from + width + slack;
      }
      b.g.style.display = shown ? '' : 'none';
      b.g.style.opacity = parent ? 0.5 : 1;
      if (!shown) return;
      b.rect.setAttribute('x', x);
      b.rect.setAttribute('width', Math.max(w - 0.5, narrowest));
      b.text.setAttribute('x', x + 3);
      b.text.textContent = fit(b.name, w);
    });
    document.getElementById('reset').style.display = to ? '' : 'none';
    mark();
  }

  // mark colours what matches the pattern, and tells the share of it in what is shown.
  function mark() {
    var label = document.getElementById('matched'), total = zoomed ? zoomed.w : view - 2 * margin, sum = 0, end = -1;
    boxes.forEach(function (b) {
      var hit = pattern && b.level > 0 && pattern.test(b.name);
      b.rect.setAttribute('fill', hit ? '#e600e6' : b.fill);
      if (!hit || b.g.style.display === 'none' || (zoomed && b.level < zoomed.level)) return;
      // Depth first: what begins before the end of the last outermost match is in it.
      if (b.x >= end - total * 1e-6) {
        sum += b.w;
        end = b.x + b.w;
      }
    });
    label.textContent = pattern ? 'matched: ' + (100 * Math.min(sum / total, 1)).toFixed(2) + '%' : '';
  }

  function search(source) {
    if (source === undefined) source = window.prompt('Search for (a regular expression):', pattern ? pattern.source : '');
    if (source === null) return;
    try {
      pattern = source ? new RegExp(source) : null;
    } catch (e) {
      window.alert(e.message);
      return;
    }
    document.getElementById('clear').style.display = pattern ? '' : 'none';
    mark();
  }

  boxes.forEach(function (b) {
    b.g.addEventListener('click', function () { zoom(b.level === 0 ? null : b); });
    b.g.style.cursor = 'pointer';
  });
  document.getElementById('search').addEventListener('click', function () { search(); });
  document.getElementById('clear').addEventListener('click', function () { search(''); });
  document.getElementById('reset').addEventListener('click', function () { zoom(null); });
  window.addEventListener('keydown', function (e) {
    if ((e.ctrlKey || e.metaKey) && e.key === 'f' || e.key === '/') {
      e.preventDefault();
      search();
    } else if (e.key === 'Escape') {
      search('');
      zoom(null);
    }
  });
  document.getElementById('controls').style.display = '';
  window.flameline = { zoom: function (i) { zoom(boxes[i]); }, search: search };
})();
