r"""Labels and facts: worked by hand, and consistent with each other."""

from dataclasses import replace

import numpy as np

from ldm.postcards import QUESTIONS, Animal, Garment, Scene, Thing, facts, labels, sample_scene, topic

DOG = Animal("dog", "brown", (Garment("glasses", ""), Garment("hat", "red")), "sitting", 2)
CAT = Animal("cat", "black", (Garment("scarf", "pink"),), "sitting", 0)
BOATS = Scene(
    "lake", "hills", "sunset", "clear", "right", things=(Thing("boat", "red", 0), Thing("boat", "blue", 2))
)


def test_the_labels_of_a_landscape_by_hand():
    told = labels(BOATS)
    assert told["place"] == "lake" and told["sun"] == "right" and told["animals"] == "0"
    assert told["boat"] == "2" and told["boat colour"] == "red" and told["second boat colour"] == "blue"
    assert (
        told["house"] == "0" and "boat side" not in told and "house colour" not in told and "wall" not in told
    )
    rain = Scene("lake", "hills", "sunset", "rain", "right")
    assert labels(rain)["sun"] == "hidden"


def test_the_labels_of_animals_are_from_left_to_right():
    told = labels(Scene(wall="teal", animals=(DOG, CAT)))
    assert told["first animal"] == "cat" and told["first scarf"] == "pink" and told["first hat"] == "no"
    assert told["second animal"] == "dog" and told["second glasses"] == "yes" and told["second hat"] == "red"
    assert told["uniform wall"] == told["eyes match"] == "yes" and "boat" not in told


def test_the_facts_of_a_scene_by_hand():
    true = facts(labels(BOATS))
    assert {
        "lake",
        "hills",
        "sunset",
        "clear",
        "2 boat",
        "boat",
        "red boat",
        "blue boat",
        "sun right",
        "no dog",
    } <= true
    assert not true & {"1 boat", "no boat", "boat left", "green boat", "mountains"}
    pair = facts(labels(Scene(wall="teal", animals=(DOG, CAT))))
    assert {"teal wall", "2 animals", "1 dog", "dog glasses", "dog red hat", "brown dog hat", "dog no scarf",
            "cat left of dog", "cat left", "cat pink scarf", "no boat"} <= pair  # fmt: skip
    assert not pair & {"cat hat", "dog left of cat", "black dog", "cat red hat", "2 dog", "dog no hat"}


def test_two_of_a_kind_are_on_no_side():
    r"""Neither of two dogs is *the* dog; two boats are not left of a house, even if one of them is."""
    true = facts(labels(Scene(wall="teal", animals=(DOG, replace(DOG, slot=0)))))
    assert {"2 dog", "2 animals"} <= true and not true & {"dog left", "dog right", "dog left of dog", "1 dog"}
    house = Thing("house", "blue", 2)
    two = facts(labels(replace(BOATS, things=(BOATS.things[0], Thing("boat", "red", 1), house))))
    assert {"2 boat", "house right"} <= two and not two & {"boat left", "boat left of house"}
    one = facts(labels(replace(BOATS, things=(BOATS.things[0], house))))
    assert {"boat left", "boat left of house"} <= one


def test_answers_that_make_no_sense_add_no_facts():
    told = labels(Scene(wall="teal", animals=(CAT,)))
    noise = {question: answers[-1] for question, answers in QUESTIONS.items() if question not in told}
    assert facts(told | noise) == facts(told)


def test_every_label_is_an_answer_to_a_question_and_every_answer_occurs():
    rng, seen = np.random.default_rng(0), {question: set() for question in QUESTIONS}
    for i in range(8000):
        for question, answer in labels(sample_scene(rng, ("train", "held_out")[i % 2])).items():
            assert answer in QUESTIONS[question]
            seen[question].add(answer)
    for question, answers in QUESTIONS.items():
        missing = set(answers) - seen[question]
        assert missing <= ({"no"} if question in ("uniform wall", "eyes match") else set()), question


def test_every_fact_has_a_topic_by_hand():
    topics = {
        "place": "lake", "relief": "hills", "time": "day", "weather": "snow", "style": "print", "wall": "red wall",
        "absence": "no boat", "count": "2 boat", "side": "sun left", "garment": "dog hat", "thing": "boat",
        "garment colour": "dog red hat", "colour": "red boat",
    }  # fmt: skip
    assert {topic(fact): fact for fact in topics.values()} == topics
    assert (
        topic("dog no hat") == "absence"
        and topic("cat left of dog") == "side"
        and topic("glasses") == "garment"
    )
    assert (
        topic("red hat") == "garment colour"
        and topic("brown dog hat") == "garment"
        and topic("brown dog") == "colour"
    )
