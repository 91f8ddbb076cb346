"use strict";
// What the pieces of the tour say, in English and in French.

const PIECE_WORDS = {
en: {
  use: (mb) => `Run the model here (loads ${mb} MB)`, stop: "Stop", without: "Recorded images: this copy of the site has no model.",
  recorded: "Recorded images.", live: "Computed in this page.", error: "It failed:",
  t: "Timestep t", other: "Other noise", prompt: "Prompt", guidance: "Guidance g",
  share: (alpha, sigma, snr) => `${alpha} × image + ${sigma} × noise, signal to noise ${snr}`,
  clean: "the image", noise: "noise", noisy: "their sum, x_t", latent: "the noisy latent, decoded", guess: "the U-Net’s estimate of the image",
  uncond: "without the prompt, g = 0", cond: "with it, g = 1", guided: (g) => `guided, g = ${g}`,
  begin: "begin", end: "end", padding: (n) => `end, ${n} times`, cut: (n, all) => `${n} tokens, ${all} with what fills up`,
  drawing: "your drawing", latents: (shape) => `its latent, ${shape.join(" × ")}`, back: "and back", clear: "Clear", card: "A postcard",
  canvas: "Draw here: with a finger, a mouse, or the arrow keys (space lowers and lifts the pen)", colour: (name) => `Colour: ${name}`,
  colours: ["black", "white", "red", "orange", "yellow", "green", "blue", "purple"],
  lost: (db) => `The error is ${db} dB below the image’s range (PSNR).`, numbers: (all, few) => `${all} numbers become ${few}, and ${all} again.`,
},
fr: {
  use: (mb) => `Exécuter le modèle ici (charge ${mb} Mo)`, stop: "Arrêter", without: "Images enregistrées : cette copie du site est sans modèle.",
  recorded: "Images enregistrées.", live: "Calculé dans cette page.", error: "Échec :",
  t: "Pas de temps t", other: "Un autre bruit", prompt: "Prompt", guidance: "Guidage g",
  share: (alpha, sigma, snr) => `${alpha} × image + ${sigma} × bruit, rapport signal sur bruit ${snr}`,
  clean: "l’image", noise: "le bruit", noisy: "leur somme, x_t", latent: "le latent bruité, décodé", guess: "l’image selon le U-Net",
  uncond: "sans le prompt, g = 0", cond: "avec lui, g = 1", guided: (g) => `guidé, g = ${g}`,
  begin: "début", end: "fin", padding: (n) => `fin, ${n} fois`, cut: (n, all) => `${n} tokens, ${all} avec le remplissage`,
  drawing: "votre dessin", latents: (shape) => `son latent, ${shape.join(" × ")}`, back: "et retour", clear: "Effacer", card: "Une carte postale",
  canvas: "Dessinez ici : au doigt, à la souris ou avec les flèches (espace pose et lève le crayon)", colour: (name) => `Couleur : ${name}`,
  colours: ["noir", "blanc", "rouge", "orange", "jaune", "vert", "bleu", "violet"],
  lost: (db) => `L’erreur est à ${db} dB sous l’étendue de l’image (PSNR).`, numbers: (all, few) => `${all} nombres se réduisent à ${few}, puis redeviennent ${all}.`,
},
};
const TELL = PIECE_WORDS[document.documentElement.lang.startsWith("fr") ? "fr" : "en"];
