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
      this.probeAt = null
      this.penDown = false
      this.position = 0.88 // of the slider: 0 is noise, 1 is clean
      const random = plane.makeRandom(7)
      this.starts = Array.from({length: POINTS}, () => [random.normal(), random.normal()])
      Object.assign(this, plane.buildControls(root, this.words, STEPS.length, this.position))
      this.drawing = new plane.Drawing(this.canvas)
      this.listen()
      this.takeShape()
    }

    chosen(group) { return this.root.querySelector(`input[name$="-${group}"]:checked`).value }

    listen() {
      this.root.addEventListener('input', event => {
        const name = event.target.name.replace(/^plane-\d+-/, '')
        if (name === 'time') this.stopFlow()
        this.position = this.time.value / 200
        if (name === 'shape') {
          this.shape = this.chosen('shape')
          this.takeShape()
        } else if (['way', 'steps', 'guidance', 'part', 'source'].includes(name)) this.follow()
        this.paint()
      })
      this.play.addEventListener('click', () => this.flowing ? this.stopFlow() : this.startFlow())
      this.learn.addEventListener('click', () => this.training ? this.stopTraining() : this.startTraining())
      this.clear.addEventListener('click', () => {
        this.strokes = []
        this.takeShape()
      })
      this.canvas.addEventListener('pointerdown', event => this.press(event))
      this.canvas.addEventListener('pointermove', event => this.move(event))
      this.canvas.addEventListener('pointerup', () => this.lift())
      this.canvas.addEventListener('pointercancel', () => this.lift())
      this.canvas.addEventListener('pointerleave', event => {
        if (event.pointerType === 'mouse' && !this.penDown) this.probeAt = null
        this.paint()
      })
      this.canvas.addEventListener('keydown', event => this.key(event))
      new ResizeObserver(() => this.paint()).observe(this.canvas)
      new MutationObserver(() => this.paint()).observe(document.body, {attributeFilter: ['data-theme']})
      matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.paint())
    }

    // --- the pointer: a probe, or a pen ---

    press(event) {
      this.probeAt = this.drawing.from(event)
      if (this.shape === 'draw') {
        event.preventDefault()
        this.canvas.setPointerCapture(event.pointerId)
        this.penDown = true
        this.strokes.push([this.probeAt])
      }
      this.paint()
    }

    move(event) {
      if (this.penDown) {
        for (const each of event.getCoalescedEvents?.() ?? [event]) this.extend(this.drawing.from(each))
      } else if (event.pointerType === 'mouse') this.probeAt = this.drawing.from(event)
      this.paint()
    }

    lift() {
      if (!this.penDown) return
      this.penDown = false
      this.probeAt = null
      this.takeShape()
    }

    extend(point) {
      const reach = plane.REACH - 0.1, kept = point.map(v => Math.max(-reach, Math.min(reach, v)))
      this.strokes[this.strokes.length - 1].push(kept)
      this.probeAt = kept
    }

    key(event) {
      const way = {ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1]}[event.key]
      if (way) {
        const [x, y] = this.probeAt || [0, 0], reach = plane.REACH - 0.1
        this.probeAt = [x + way[0], y + way[1]].map(v => Math.max(-reach, Math.min(reach, v)))
        if (this.penDown) this.extend(this.probeAt)
      } else if (event.key === ' ' && this.shape === 'draw') {
        if (this.penDown) this.lift()
        else {
          this.penDown = true
          this.strokes.push([this.probeAt ||= [0, 0]])
        }
      } else if (event.key === 'Escape') this.probeAt = null
      else return
      event.preventDefault()
      this.paint()
      if (this.probeAt && this.whole) this.say()
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
      const count = STEPS[this.steps.value], sde = this.chosen('way') === 'sde'
      this.stages = plane.sample(
        this.denoiser(), this.starts, plane.circleLevels(count), sde ? plane.makeRandom(11) : null)
      const traced = this.starts.slice(0, TRACED)
      this.fine = sde || count > 20 ? null : plane.sample(this.denoiser(), traced, plane.circleLevels(80))
      const target = Number(this.part.value) < 0 ? this.whole : this.parts[this.part.value]
      const ends = this.stages[count].points
      this.distance = ends.reduce((sum, [x, y]) =>
        sum + Math.min(...target.means.map(([mx, my]) => Math.hypot(x - mx, y - my))), 0) / ends.length
    }

    get traced() { return this.chosen('way') === 'sde' ? TRACED_SDE : TRACED }

    // Where the points are at time t: on the way that the step takes, which keeps its guesses.
    pointsAt(stages, t, only = Infinity) {
      const i = Math.max(0, stages.findIndex(({level}) => level.t <= t + 1e-9))
      const stage = stages[i], before = stages[i - 1], points = stage.points.slice(0, only)
      if (!before || stage.level.t >= t) return points
      const {alpha, sigma} = plane.circleLevel(t), share = (t - stage.level.t) / (before.level.t - stage.level.t)
      return points.map(([x, y], p) => {
        const [x0, y0, ex, ey] = before.guesses[p]
        if (this.chosen('way') === 'ode') return [alpha * x0 + sigma * ex, alpha * y0 + sigma * ey]
        return [x + share * (before.points[p][0] - x), y + share * (before.points[p][1] - y)]
      })
    }

    // The traced points' paths from pure noise to time t.
    pathsTo(stages, t) {
      const times = []
      for (let i = 0; i + 1 < stages.length; i++)
        for (let k = 0; k < 6; k++) times.push(stages[i].level.t + k / 6 * (stages[i + 1].level.t - stages[i].level.t))
      const columns = [...times.filter(time => time > t), t].map(time => this.pointsAt(stages, time, this.traced))
      return Array.from({length: this.traced}, (_, p) => columns.map(points => points[p]))
    }

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
      const level = plane.circleLevel(1 - this.position), drawing = this.drawing
      drawing.begin()
      if (this.whole && !this.penDown) {
        const learned = this.chosen('source') === 'learned' && this.network, part = Number(this.part.value)
        drawing.density(part < 0 ? this.whole : this.parts[part], level)
        if (this.show_arrows.checked) {
          const near = plane.circleLevel(Math.max(level.t, 0.03)) // at 0 there is no noise to point away from
          if (learned) drawing.field(this.denoiser(false), near, 'faint', 1.2)
          drawing.field(this.denoiser(), near, learned ? 'learned' : 'arrow', 1.1)
        }
        if (this.show_points.checked) drawing.dots(this.pointsAt(this.stages, level.t), 'data', 1.8)
        if (this.show_paths.checked) this.paintPaths(level.t)
      }
      for (const stroke of this.shape === 'draw' ? this.strokes : []) drawing.path(stroke, 'faint', 3)
      if (this.probeAt && this.whole && !this.penDown)
        drawing.probe(this.probeAt, this.denoiser()(...this.probeAt, level).slice(0, 2))
      else if (this.probeAt && this.shape === 'draw') drawing.dots([this.probeAt], 'probe', 4)
      this.tell(level)
    }

    paintPaths(t) {
      const drawing = this.drawing
      if (this.fine) for (const path of this.pathsTo(this.fine, t)) drawing.path(path, 'faint', 1.4)
      for (const path of this.pathsTo(this.stages, t)) drawing.path(path, 'path', 1.4)
      if (this.stages.length <= 13)
        for (const {level, points} of this.stages.slice(1))
          if (level.t >= t) drawing.dots(points.slice(0, this.traced), 'path', 2.2)
      drawing.dots(this.starts.slice(0, this.traced), 'noise', 3)
    }

    tell(level) {
      const w = this.words, part = Number(this.part.value)
      this.time.shown.textContent = w.timeValue(level.t.toFixed(2), Math.round(100 * level.alpha ** 2))
      this.time.setAttribute('aria-valuetext', this.time.shown.textContent)
      this.steps.shown.textContent = STEPS[this.steps.value]
      this.steps.setAttribute('aria-valuetext', STEPS[this.steps.value])
      this.guidance.shown.textContent = part < 0 ? '–' : (this.guidance.value / 2).toFixed(1)
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
      if (!this.probeAt || !this.whole) this.said.textContent = this.whole ? w.end(this.distance.toFixed(2)) : w.empty
    }

    say() {
      const guess = this.denoiser()(...this.probeAt, plane.circleLevel(1 - this.position))
      this.said.textContent = this.words.probe(guess[0].toFixed(2), guess[1].toFixed(2))
    }
  }

  plane.Figure = Figure
  addEventListener('DOMContentLoaded', () => {
    for (const root of document.querySelectorAll('.plane-figure')) root.figure = new Figure(root)
  })
})(globalThis.plane ??= {})
