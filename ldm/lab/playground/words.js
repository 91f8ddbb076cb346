"use strict";
// What the page says, in English and in French.

const WORDS = {
en: {
  prompt: "What to paint", paint: "Paint", stop: "Stop", load: (mb) => `Paint (loads ${mb} MB)`,
  examples: ["a dog with glasses", "a serene lake at sunrise", "un lapin avec un chapeau"],
  guidance: "Guidance", seed: "Seed", dice: "Another seed", steps: "Steps", sampler: "Sampler",
  step: "Step", play: "Play the steps", views: { x0: "prediction", x: "noisy latent" }, view: "What to show",
  words: "Click a word to see where the image read it.", word: (word) => `Where “${word}” was read`,
  all: "in all steps", at: (k) => `at step ${k}`,
  position: (k, n, t) => (k === n ? `after ${n} steps` : `step ${k + 1} of ${n}, t = ${t}`),
  recorded: "A recorded run.", none: "This copy of the site was built without the model.",
  idle: "The model is loaded when you paint. It runs on this device; nothing is sent anywhere.",
  loading: (done, all) => `Loading: ${done} of ${all} MB`, opening: "Opening the networks …", ready: "Ready.",
  painting: (k, n) => `Step ${k} of ${n}`, stopped: "Stopped.",
  done: (n, seconds) => `${n} steps in ${seconds} s.`, again: "The same image in Python:", error: "It failed:",
},
fr: {
  prompt: "Que peindre", paint: "Peindre", stop: "Arrêter", load: (mb) => `Peindre (charge ${mb} Mo)`,
  examples: ["un chien avec des lunettes", "un lac serein au lever du soleil", "a rabbit with a hat"],
  guidance: "Guidage", seed: "Graine", dice: "Une autre graine", steps: "Pas", sampler: "Échantillonneur",
  step: "Pas", play: "Faire défiler les pas", views: { x0: "prédiction", x: "latent bruité" }, view: "Ce qu’on voit",
  words: "Cliquez sur un mot pour voir où l’image l’a lu.", word: (word) => `Où « ${word} » a été lu`,
  all: "à tous les pas", at: (k) => `au pas ${k}`,
  position: (k, n, t) => (k === n ? `après ${n} pas` : `pas ${k + 1} sur ${n}, t = ${t}`),
  recorded: "Une exécution enregistrée.", none: "Cette copie du site a été construite sans le modèle.",
  idle: "Le modèle est chargé quand vous peignez. Il tourne sur cet appareil ; rien n’est envoyé nulle part.",
  loading: (done, all) => `Chargement : ${done} sur ${all} Mo`, opening: "Ouverture des réseaux …", ready: "Prêt.",
  painting: (k, n) => `Pas ${k} sur ${n}`, stopped: "Arrêté.",
  done: (n, seconds) => `${n} pas en ${seconds} s.`, again: "La même image en Python :", error: "Échec :",
},
};

const PLAYGROUND = (window.PLAYGROUND ??= {}); // what settings.js, worker.js and the like leave here
const ROOT = new URL(".", document.currentScript.src).href;
const SAY = WORDS[document.documentElement.lang.startsWith("fr") ? "fr" : "en"];
const fixed = (value, digits = 1) => {
  const text = value.toFixed(digits);
  return SAY === WORDS.fr ? text.replace(".", ",") : text;
};
const megabytes = (bytes) => fixed(bytes / 1e6, bytes < 1e7 ? 1 : 0);
