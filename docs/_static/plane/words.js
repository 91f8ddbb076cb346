// What the figure says, in English and in French.
'use strict';

(plane => {
  plane.WORDS = {
    en: {
      figure: 'Points, arrows and paths in the plane. The arrow keys move a probe.',
      data: 'Data', face: 'face', moons: 'moons', spiral: 'spiral', clouds: 'clouds', draw: 'draw',
      clear: 'Start again', drawing: 'Draw with the mouse or a finger; every line becomes a part. With the keyboard: arrow keys, and Space to lower and lift the pen.',
      empty: 'Nothing is drawn yet.',
      play: 'Let them flow', pause: 'Pause', time: 'Noise',
      timeValue: (t, signal) => `t = ${t}, ${signal} % signal`,
      way: 'Sampler', ode: 'Euler (ODE)', sde: 'Euler a (SDE)',
      mixture: 'Mixture', circle: 'diffusion', flow: 'flow',
      steps: 'Steps', part: 'Prompt', all: 'everything', partNames: {
        face: ['outline', 'eyes', 'mouth'], moons: ['upper moon', 'lower moon'], spiral: ['inner turn', 'outer turn'],
        clouds: ['upper cloud', 'left cloud', 'right cloud'],
      },
      line: number => `line ${number}`,
      guidance: 'Guidance', number: text => text, source: 'Field', exact: 'exact', learned: 'learned',
      learn: 'Learn the field', stop: 'Stop', again: 'Learn it anew',
      untrained: count => `${count} weights, not trained yet`,
      training: (step, steps, loss) => `step ${step} of ${steps}, loss ${loss}`,
      arrows: 'arrows', paths: 'paths', points: 'points',
      end: distance => `At the end the points are on average ${distance} away from the data.`,
      probe: (x, y) => `From the probe the best guess of the clean point is (${x}, ${y}).`,
    },
    fr: {
      figure: 'Des points, des flèches et des trajectoires dans le plan. Les touches fléchées déplacent une sonde.',
      data: 'Données', face: 'visage', moons: 'lunes', spiral: 'spirale', clouds: 'nuages', draw: 'dessin',
      clear: 'Recommencer', drawing: 'Dessinez avec la souris ou le doigt ; chaque trait devient une partie. Au clavier : les flèches, et Espace pour poser ou lever le crayon.',
      empty: 'Rien n’est encore dessiné.',
      play: 'Suivre les flèches', pause: 'Pause', time: 'Bruit',
      timeValue: (t, signal) => `t = ${t.replace('.', ',')}, ${signal} % de signal`,
      way: 'Échantillonneur', ode: 'Euler (EDO)', sde: 'Euler a (EDS)',
      mixture: 'Mélange', circle: 'diffusion', flow: 'flot',
      steps: 'Pas', part: 'Prompt', all: 'tout', partNames: {
        face: ['contour', 'yeux', 'bouche'], moons: ['lune du haut', 'lune du bas'],
        spiral: ['tour intérieur', 'tour extérieur'], clouds: ['nuage du haut', 'nuage de gauche', 'nuage de droite'],
      },
      line: number => `trait ${number}`,
      guidance: 'Guidage', number: text => text.replace('.', ','), source: 'Champ', exact: 'exact', learned: 'appris',
      learn: 'Apprendre le champ', stop: 'Arrêter', again: 'Réapprendre',
      untrained: count => `${count} poids, pas encore entraînés`,
      training: (step, steps, loss) => `pas ${step} sur ${steps}, perte ${loss.replace('.', ',')}`,
      arrows: 'flèches', paths: 'trajectoires', points: 'points',
      end: distance => `À l’arrivée, les points sont en moyenne à ${distance.replace('.', ',')} des données.`,
      probe: (x, y) => `Depuis la sonde, la meilleure estimation du point propre est (${x.replace('.', ',')} ; ${y.replace('.', ',')}).`,
    },
  }
})(globalThis.plane ??= {})
