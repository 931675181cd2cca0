"""Everyday questions in the forms that harmful prompts of public data have.

There nine prompts in ten that open with "How can I ...?" or "What is the best way to ...?" are harmful, since nobody
collected the others; whatever is trained on that learns the form. These are ours, made of plain tasks and topics.
"""

import random
from collections.abc import Iterator

_TASKS = """sew a cushion cover; repot an orchid; learn the ukulele; keep a sourdough starter alive
paint a radiator; run ten kilometres without stopping; memorise a long poem; sharpen kitchen knives
knit a pair of socks; dry lavender; train a puppy to walk on a leash; get a toddler to sleep
prepare for a job interview; ask for a pay rise; host a book club; save for a deposit on a flat
compare two insurance offers; cancel a gym membership; write a condolence card; frame a photo
plan a week of vegetarian dinners; bake bread in a pot; freeze leftover soup; cook rice evenly
make yoghurt; pickle cucumbers; clean a flute; tune a piano by ear; start a choir; compose a lullaby
read sheet music faster; record an acoustic guitar; improve my handwriting; learn Finnish
practise small talk; give a wedding speech; overcome stage fright; remember names
organise a flea market; find volunteers for a food bank; raise money for a library; run a fair raffle
set up a carpool; choose hiking boots; pack for a week in the mountains; read a topographic map
pitch a tent in the rain; plan a bike tour; take better pictures of stars; edit a holiday film
scan old slides; print photo postcards; choose a first camera; insulate a garden shed
fix a dripping tap; hang wallpaper in a corner; lay a laminate floor; unblock a sink; oil a door hinge
reduce the electricity use of a household; collect rainwater; compost in a small flat
attract bees to a balcony; prune roses; back up a family's photos; make a spreadsheet of expenses
merge two PDF files; speed up an old laptop; choose a note-taking app; learn SQL; test a web form
write clear commit messages; deploy a static site; debug a slow query; name variables well
teach fractions to a nine-year-old; explain photosynthesis to a class; grade essays fairly
keep teenagers interested in history; sell second-hand clothes online; price handmade candles
open a small café; find the first customers; write a press release; move to another country with a cat
find a flat in a big city; learn the metric system; apply for a student visa; split rent
lower stress before an exam; build a morning routine; stop biting my nails; stretch after a long flight
sleep better in summer; stay in touch with old friends; make up after a quarrel; thank a teacher
choose a gift for a colleague; welcome new neighbours; follow a cricket match
start playing chess at forty; solve cryptic crosswords; organise a board-game night; juggle three balls"""
_TOPICS = """public libraries; tidal power; electric buses; working from home; school uniforms; the four-day week
community gardens; daylight saving time; the printing press; coral reefs; glaciers; migrating storks
honey bees; sourdough; tea ceremonies; vaccination campaigns; sleep research; physiotherapy
reading glasses; hearing aids; long-distance running; swimming lessons; spreadsheets
open-source licences; version control; recommendation systems; machine translation; barcodes
satellites; batteries; the Renaissance; the Silk Road; the Hanseatic League; the moon landings
medieval guilds; cave paintings; hieroglyphs; jazz; street theatre; crossword puzzles; origami
folk dances; science fiction; detective novels; comic strips; radio plays; podcasts; second-hand shops
farmers' markets; train stations; ferries; roundabouts; bike lanes; wooden houses; lighthouses; bridges
family businesses; trade fairs; consumer cooperatives; pension funds; minimum wages; tariffs; inflation
stock indices; patents; parliamentary committees; town twinning; referendums; the census
weather forecasts; volcano monitoring; earthquakes; deserts"""
_OF_TASKS = (
    "How can I {}?",
    "How do I {}?",
    "How to {}",
    "how can you {}",
    "What is the best way to {}?",
    "What are some effective ways to {}?",
    "What is the easiest method to {}?",
    "Can you give me some tips to {}?",
    "Can I {} without much money?",
    "Is there a way to {} quickly?",
    "I want to {}. Where should I start?",
    "I need to {}. What tools do I need?",
    "What steps should I take to {}?",
    "How could a beginner {}?",
    "Explain how to {}, step by step.",
    "Write a short guide on how to {}.",
    "Create a plan to {}.",
    "Develop a strategy to {}.",
    "Write a script for a video that shows how to {}.",
    "Give me instructions to {}.",
    "Teach me to {}.",
    "Why is it so hard to {}?",
)
_OF_TOPICS = (
    "What are the advantages and risks of {}?",
    "Should there be stricter rules for {}?",
    "Can you explain what people like about {}?",
    "Write an article about {}.",
    "Are there alternatives to {}?",
    "What is the history of {}?",
    "Why do some people dislike {}?",
    "What are the most common mistakes people make about {}?",
    "Create a campaign that gets people interested in {}.",
    "Who profits from {}?",
    "Write a persuasive speech in favour of {}.",
    "What would happen in a world without {}?",
)
EACH = 5  # forms of each task and topic


def questions() -> Iterator[str]:
    """Some forms of each task and of each topic, always the same."""
    for named, forms in ((_TASKS, _OF_TASKS), (_TOPICS, _OF_TOPICS)):
        for thing in named.replace("\n", "; ").split("; "):
            for form in random.Random(thing).sample(forms, EACH):
                yield form.format(thing)
