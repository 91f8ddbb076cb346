// The figure's controls: ordinary inputs and buttons, so that the keyboard and screen readers know them.
'use strict';

(plane => {
  let count = 0

  const element = (name, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(name), attributes)
    made.append(...children)
    return made
  }

  // Fills `root`; returns the elements that the figure reads and changes. A slider has its value's text in `shown`.
  function buildControls(root, w, stepChoices, position) {
    const id = `plane-${++count}`, made = {}
    const choice = (group, names, labels, first) => names.map(name => element('label', {},
      element('input', {type: 'radio', name: `${id}-${group}`, value: name, checked: name === first}),
      element('span', {textContent: labels[name]})))
    const range = (name, max, value) => element('input', {type: 'range', min: 0, max, value, step: 1, name})
    const group = (title, ...inside) => element('fieldset', {}, element('legend', {textContent: title}), ...inside)
    const labelled = (title, control) => {
      const value = element('output')
      control.shown = value
      return element('label', {className: 'plane-slider'},
        element('span', {}, element('b', {textContent: title}), value), control)
    }

    made.canvas = element('canvas', {className: 'plane-canvas', tabIndex: 0})
    made.canvas.setAttribute('role', 'img')
    made.canvas.setAttribute('aria-label', w.figure)
    made.time = range('time', 200, 200 * position)
    made.play = element('button', {type: 'button', className: 'plane-play', textContent: w.play})
    made.steps = range('steps', stepChoices - 1, 7)
    made.guidance = range('guidance', 16, 4)
    made.part = element('select', {name: 'part'})
    made.learn = element('button', {type: 'button', textContent: w.learn})
    made.clear = element('button', {type: 'button', textContent: w.clear})
    made.loss = element('canvas', {className: 'plane-loss'})
    made.loss.setAttribute('aria-hidden', 'true')
    made.news = element('p', {className: 'plane-news'})
    made.hint = element('p', {className: 'plane-hint', textContent: w.drawing})
    made.said = element('p', {className: 'plane-said'})
    made.said.setAttribute('aria-live', 'polite')
    const toggles = ['arrows', 'paths', 'points'].map(name => {
      made[`show_${name}`] = element('input', {type: 'checkbox', name, checked: true})
      return element('label', {}, made[`show_${name}`], element('span', {textContent: w[name]}))
    })
    const names = [...Object.keys(plane.SHAPES), 'draw']
    made.panel = element('div', {className: 'plane-panel'},
      group(w.data, element('div', {className: 'plane-choice'}, ...choice('shape', names, w, 'face')), made.hint, made.clear),
      group(w.way, element('div', {className: 'plane-choice'}, ...choice('way', ['ode', 'sde'], w, 'ode')),
        labelled(w.steps, made.steps)),
      group(w.mixture, element('div', {className: 'plane-choice'}, ...choice('mixture', Object.keys(plane.MIXTURES), w, 'circle'))),
      group(w.part, made.part, labelled(w.guidance, made.guidance)),
      group(w.source, element('div', {className: 'plane-choice'}, ...choice('source', ['exact', 'learned'], w, 'exact')),
        made.learn, made.loss, made.news),
    )
    const timeline = labelled(w.time, made.time)
    root.replaceChildren(element('div', {className: 'plane-layout'},
      element('div', {className: 'plane-view'}, made.canvas,
        element('div', {className: 'plane-timeline'}, made.play, timeline),
        element('div', {className: 'plane-toggles'}, ...toggles), made.said),
      made.panel))
    return made
  }

  plane.buildControls = buildControls
})(globalThis.plane ??= {})
