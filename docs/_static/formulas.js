// Formulas that are wider than their column: first they break between their terms (site.css), then they shrink a
// little, and what is still too wide scrolls and says so, as do diagrams, tables, code and the film strip.
(() => {
  const SMALLEST = 0.62
  const WIDE = 'figure.diagram, .table-wrapper, article .highlight pre, article p:has(> img[src$="film.png"])'

  function fit(formula) {
    const inner = formula.querySelector('.katex-display')
    if (!inner) return
    inner.style.fontSize = ''
    formula.classList.remove('scrolls')
    const room = formula.clientWidth, wide = formula.scrollWidth
    if (wide <= room || !room) return
    inner.style.fontSize = `${Math.max(SMALLEST, 0.98 * room / wide)}em`
    if (formula.scrollWidth > formula.clientWidth) formula.classList.add('scrolls')
  }

  function figures() {
    for (const figure of document.querySelectorAll(WIDE)) {
      const scrolls = figure.scrollWidth > figure.clientWidth + 1
      figure.classList.toggle('scrolls', scrolls)
      if (scrolls) figure.tabIndex = 0
    }
  }

  function all() {
    document.querySelectorAll('div.math').forEach(fit)
    figures()
  }

  let width = 0
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return
    width = document.body.clientWidth
    all()
  }).observe(document.body)
  document.fonts.ready.then(all)
})()
