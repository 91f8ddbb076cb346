"use strict";
// What the page says, in English and in French.

(window.PLAYGROUND ??= {}).words = {
en: {
  prompt: "What to paint", paint: "Paint", stop: "Stop", load: (mb) => `Load the model (${mb} MB) and paint`,
  examples: ["a dog with glasses", "a cat in the snow", "a lighthouse by the sea at sunset", "un lapin avec un chapeau"],
  guidance: "Guidance", seed: "Seed", dice: "Another seed", steps: "Steps", sampler: "Sampler",
  step: "Step", play: "Play the steps", views: { x0: "predicted image", x: "noisy latent" }, view: "What to show",
  words: "Click a word to see where the image read it.", word: (word) => `Where “${word}” was read`,
  all: "in all steps", at: (k) => `at step ${k}`,
  position: (k, n, t) => (k === n ? `finished, after ${n} steps` : `step ${k + 1} of ${n}, t = ${t}`),
  recorded: "A recorded run.", none: "This copy of the site was built without the model, so it shows a recorded run only.",
  idle: "Nothing is loaded until you ask for it. Then everything happens on this device; nothing is sent anywhere.",
  loading: (done, all) => `Loading: ${done} of ${all} MB`, opening: "Opening the networks …", ready: "Ready.",
  painting: (k, n) => `Step ${k} of ${n}`, stopped: "Stopped.",
  done: (n, seconds) => `${n} steps in ${seconds} s.`, again: "The same image in Python:", error: "It failed:",
},
fr: {
  prompt: "Que peindre", paint: "Peindre", stop: "Arrêter", load: (mb) => `Charger le modèle (${mb} Mo) et peindre`,
  examples: ["un chien avec des lunettes", "un chat sous la neige", "un phare au bord de la mer", "a rabbit with a hat"],
  guidance: "Guidage", seed: "Graine", dice: "Une autre graine", steps: "Pas", sampler: "Échantillonneur",
  step: "Pas", play: "Faire défiler les pas", views: { x0: "image prédite", x: "latent bruité" }, view: "Ce qui est montré",
  words: "Cliquez sur un mot pour voir où l’image l’a lu.", word: (word) => `Où « ${word} » a été lu`,
  all: "à tous les pas", at: (k) => `au pas ${k}`,
  position: (k, n, t) => (k === n ? `terminé, après ${n} pas` : `pas ${k + 1} sur ${n}, t = ${t}`),
  recorded: "Un essai enregistré.", none: "Cette copie du site a été construite sans le modèle : elle ne montre qu’un essai enregistré.",
  idle: "Rien n’est chargé avant que vous le demandiez. Ensuite tout se passe sur cet appareil ; rien n’est envoyé.",
  loading: (done, all) => `Chargement : ${done} sur ${all} Mo`, opening: "Ouverture des réseaux …", ready: "Prêt.",
  painting: (k, n) => `Pas ${k} sur ${n}`, stopped: "Arrêté.",
  done: (n, seconds) => `${n} pas en ${seconds} s.`, again: "La même image en Python :", error: "Cela a échoué :",
},
};
