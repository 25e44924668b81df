// Draws the sections of the page from its data. Knows nothing of what they show.
'use strict';

const DATA = JSON.parse(document.getElementById('data').textContent);
const views = {}; // chart's section -> its view

function element(tag, text, attributes = {}) {
  const found = document.createElement(tag);
  found.textContent = text || '';
  return Object.assign(found, attributes);
}

function drawFacts() {
  for (const cells of DATA.facts) {
    const row = element('tr');
    row.append(...cells.map((text) => element('td', text)));
    document.getElementById('facts').append(row);
  }
}

async function drawSection(section) {
  const part = element('section', '', { id: section.id });
  part.append(element('h2', section.title));
  document.getElementById('sections').append(part);
  if (section.text) part.append(element('p', section.text));
  if (section.why) part.append(element('p', section.why, { className: 'why' }));
  if (!section.chart) return;
  const place = element('div', '', { className: 'chart' });
  part.append(place);
  const options = { mode: 'vega-lite', renderer: 'svg', actions: false };
  views[section.id] = (await vegaEmbed(place, section.chart, options)).view;
}

async function draw() {
  drawFacts();
  for (const section of DATA.sections) await drawSection(section);
  document.body.dataset.drawn = 'yes';
}

const drawn = draw();
