// The figure: what its controls change, and the painting after each change.
'use strict';

(plane => {
  const STEPS = [1, 2, 3, 4, 6, 8, 12, 20, 40], TRAINING = 1000
  const POINTS = 280, TRACED = 14, TRACED_SDE = 3 // paths that tremble are drawn for fewer points
  const MOST_GAUSSIANS = 420, SECONDS = 4 // of a flow
  const SLICE = 12, PAUSE = 150 // milliseconds: of training in each frame, and between two paintings meanwhile

  class Figure {
    constructor(root) {
      this.words = plane.WORDS[root.dataset.language] || plane.WORDS.en
      this.root = root
      this.shape = 'face'
      this.strokes = []
      this.position = 0.88 // of the slider: 0 is noise, 1 is clean
      const random = plane.makeRandom(7)
      this.starts = Array.from({length: POINTS}, () => [random.normal(), random.normal()])
      Object.assign(this, plane.buildControls(root, this.words, STEPS.length, this.position))
      this.drawing = new plane.Drawing(this.canvas)
      this.listen()
      this.takeShape()
    }

    levelAt(t) { return plane.MIXTURES[this.chosen('mixture')](t) }

    chosen(group) { return this.root.querySelector(`input[name$="-${group}"]:checked`).value }

    listen() {
      this.root.addEventListener('input', event => {
        const name = event.target.name.replace(/^plane-\d+-/, '')
        if (name === 'time') this.stopFlow()
        this.position = this.time.value / 200
        if (name === 'shape') {
          this.shape = this.chosen('shape')
          this.takeShape()
        } else if (['way', 'steps', 'mixture', 'guidance', 'part', 'source'].includes(name)) this.follow()
        this.paint()
      })
      this.play.addEventListener('click', () => this.flowing ? this.stopFlow() : this.startFlow())
      this.learn.addEventListener('click', () => this.training ? this.stopTraining() : this.startTraining())
      this.clear.addEventListener('click', () => {
        this.strokes = []
        this.takeShape()
      })
      this.pen = new plane.Pen(this)
      new ResizeObserver(() => this.paint()).observe(this.canvas)
      new MutationObserver(() => this.paint()).observe(document.body, {attributeFilter: ['data-theme']})
      matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.paint())
    }

    // --- the data, the field, the paths ---

    // The parts of the shape that is chosen. Lines that would make the page slow are cut.
    takeShape() {
      const w = this.words, drawn = this.shape === 'draw'
      if (drawn) {
        let room = MOST_GAUSSIANS
        this.parts = this.strokes.map(stroke => plane.line(stroke)).filter(Boolean)
        this.parts = this.parts.filter(part => (part.means = part.means.slice(0, Math.max(0, room)), room -= part.means.length, part.means.length))
        this.parts = this.parts.map(part => new plane.Mixture(part.means, part.std))
      } else this.parts = plane.SHAPES[this.shape]()
      this.whole = this.parts.length ? plane.join(this.parts) : null
      this.hint.hidden = this.clear.hidden = !drawn
      this.canvas.classList.toggle('plane-pen', drawn)
      const names = this.parts.map((_, i) => drawn ? w.line(i + 1) : w.partNames[this.shape][i])
      this.part.replaceChildren(...[w.all, ...names].map((name, i) => new Option(name, i - 1)))
      this.stopTraining()
      this.trainer = this.network = null
      this.follow()
      this.paint()
    }

    // The denoiser that the controls ask for, of the exact field or the learned one.
    denoiser(learned = this.chosen('source') === 'learned') {
      const part = Number(this.part.value)
      const one = (which = -1) => {
        if (learned && this.network) return this.network.denoiser(which)
        const mixture = which < 0 ? this.whole : this.parts[which]
        return (x, y, level) => mixture.denoise(x, y, level)
      }
      return part < 0 ? one() : plane.guided(one(), one(part), this.guidance.value / 2)
    }

    follow() {
      if (!this.whole) {
        this.stages = this.fine = null
        return
      }
      const count = STEPS[this.steps.value], sde = this.chosen('way') === 'sde', mixture = this.chosen('mixture')
      this.stages = plane.sample(
        this.denoiser(), this.starts, plane.levels(mixture, count), sde ? plane.makeRandom(11) : null)
      const traced = this.starts.slice(0, TRACED)
      this.fine = sde || count > 20 ? null : plane.sample(this.denoiser(), traced, plane.levels(mixture, 80))
      const target = Number(this.part.value) < 0 ? this.whole : this.parts[this.part.value]
      const ends = this.stages[count].points
      this.distance = ends.reduce((sum, [x, y]) =>
        sum + Math.min(...target.means.map(([mx, my]) => Math.hypot(x - mx, y - my))), 0) / ends.length
    }

    get traced() { return this.chosen('way') === 'sde' ? TRACED_SDE : TRACED }

    get straight() { return this.chosen('way') === 'sde' }

    // --- what moves by itself ---

    startFlow() {
      if (!this.stages) return
      if (this.position >= 1) this.position = 0
      this.flowing = true
      this.play.textContent = this.words.pause
      let last = performance.now()
      const frame = now => {
        if (!this.flowing) return
        this.position = Math.min(1, this.position + (now - last) / 1000 / SECONDS)
        last = now
        this.time.value = 200 * this.position
        this.paint()
        if (this.position < 1) requestAnimationFrame(frame)
        else this.stopFlow()
      }
      requestAnimationFrame(frame)
    }

    stopFlow() {
      this.flowing = false
      this.play.textContent = this.words.play
      this.paint()
    }

    startTraining() {
      if (!this.whole) return
      const random = plane.makeRandom(3)
      this.network = new plane.Field(this.parts.length, random)
      this.trainer = new plane.Trainer(this.network, this.parts, TRAINING, random)
      this.root.querySelector('input[name$="-source"][value="learned"]').checked = true
      this.training = true
      let followed = 0, painted = 0
      const frame = now => {
        if (!this.training) return
        const end = performance.now() + SLICE
        do this.trainer.advance()
        while (!this.trainer.done && performance.now() < end)
        if (this.trainer.done) this.stopTraining()
        else if (now - followed > 1500) {
          this.follow()
          followed = now
        }
        if (now - painted > PAUSE) {
          this.paint()
          painted = now
        }
        requestAnimationFrame(frame)
      }
      requestAnimationFrame(frame)
    }

    stopTraining() {
      const was = this.training
      this.training = false
      if (was) this.follow()
      this.paint()
    }

    // --- painting: at most once in a frame ---

    paint() {
      if (this.waiting) return
      this.waiting = true
      requestAnimationFrame(() => {
        this.waiting = false
        this.paintNow()
      })
    }

    paintNow() {
      const level = this.levelAt(1 - this.position), drawing = this.drawing
      drawing.begin()
      if (this.whole && !this.pen.down) {
        const learned = this.chosen('source') === 'learned' && this.network, part = Number(this.part.value)
        drawing.density(part < 0 ? this.whole : this.parts[part], level)
        if (this.show_arrows.checked) {
          const near = this.levelAt(Math.max(level.t, 0.03)) // at 0 there is no noise to point away from
          if (learned) drawing.field(this.denoiser(false), near, 'faint', 1.2)
          drawing.field(this.denoiser(), near, learned ? 'learned' : 'arrow', 1.1)
        }
        if (this.show_points.checked) drawing.dots(plane.pointsAt(this.stages, level.t, this.straight), 'data', 1.8)
        if (this.show_paths.checked) this.paintPaths(level.t)
      }
      for (const stroke of this.shape === 'draw' ? this.strokes : []) drawing.path(stroke, 'faint', 3)
      if (this.pen.place && this.whole && !this.pen.down)
        drawing.probe(this.pen.place, this.denoiser()(...this.pen.place, level).slice(0, 2))
      else if (this.pen.place && this.shape === 'draw') drawing.dots([this.pen.place], 'probe', 4)
      this.tell(level)
    }

    paintPaths(t) {
      const drawing = this.drawing
      if (this.fine) for (const path of plane.pathsTo(this.fine, t, this.straight, this.traced)) drawing.path(path, 'faint', 1.4)
      for (const path of plane.pathsTo(this.stages, t, this.straight, this.traced)) drawing.path(path, 'path', 1.4)
      if (this.stages.length <= 13)
        for (const {level, points} of this.stages.slice(1))
          if (level.t >= t) drawing.dots(points.slice(0, this.traced), 'path', 2.2)
      drawing.dots(this.starts.slice(0, this.traced), 'noise', 3)
    }

    tell(level) {
      const w = this.words, part = Number(this.part.value)
      this.time.shown.textContent = w.timeValue(level.t.toFixed(2), Math.round(100 * level.alpha ** 2 / (level.alpha ** 2 + level.sigma ** 2)))
      this.time.setAttribute('aria-valuetext', this.time.shown.textContent)
      this.steps.shown.textContent = STEPS[this.steps.value]
      this.steps.setAttribute('aria-valuetext', STEPS[this.steps.value])
      this.guidance.shown.textContent = part < 0 ? '–' : w.number((this.guidance.value / 2).toFixed(1))
      this.guidance.setAttribute('aria-valuetext', this.guidance.shown.textContent)
      this.guidance.disabled = part < 0
      this.learn.disabled = this.play.disabled = !this.whole
      this.learn.textContent = this.training ? w.stop : this.trainer ? w.again : w.learn
      const recent = this.trainer?.losses.slice(-40) ?? []
      this.news.textContent = this.trainer
        ? w.training(this.trainer.step, TRAINING, (recent.reduce((a, b) => a + b, 0) / recent.length).toFixed(2))
        : w.untrained((5378 + 64 * (this.parts.length)).toLocaleString(this.root.dataset.language || 'en'))
      this.root.querySelector('input[name$="-source"][value="learned"]').disabled = !this.network
      if (!this.network) this.root.querySelector('input[name$="-source"][value="exact"]').checked = true
      if (this.network) plane.lossCurve(this.loss, this.trainer.losses, TRAINING, this.drawing.colour('learned'))
      this.loss.hidden = !this.network
      if (!this.pen.place || !this.whole) this.said.textContent = this.whole ? w.end(this.distance.toFixed(2)) : w.empty
    }

    say() {
      if (!this.pen.place || !this.whole) return
      const guess = this.denoiser()(...this.pen.place, this.levelAt(1 - this.position))
      this.said.textContent = this.words.probe(guess[0].toFixed(2), guess[1].toFixed(2))
    }
  }

  plane.Figure = Figure
  addEventListener('DOMContentLoaded', () => {
    for (const root of document.querySelectorAll('.plane-figure')) root.figure = new Figure(root)
  })
})(globalThis.plane ??= {})
