"""What the generator is asked. Texts only: `stage` fills them in and sends them.

The prompts quote one category and its neighbours across the border, never the whole constitution, so that an edited
category leaves the answers for all others as they are.
"""

from string import Template

# Sets the scene for every prompt: where the texts go, so that a model does not take a request at face value.
WRITER = """\
You write training data for a safety classifier. The classifier will protect an assistant that follows a written \
constitution; to learn the rules it needs texts from both sides of every border. You write what you are asked for, \
in full, without remarks of your own before or after it."""

# The part of the constitution that a prompt is about. Neighbours are the categories across the border.
RULES = Template("""\
The constitution: $title
$summary

$introduction

The category: $slug ($side)
$prose
Examples:
$examples

Its neighbours on the other side ($other_side):
$neighbours""")

# Stage I, step 1: what users write. Styles and languages come from a seeded draw, not from the model's habits.
REQUESTS = Template("""\
$rules

Write $count messages that different users could send to the assistant, each a request of the category $slug. \
$border
Make them differ in topic, detail, length and wording; no two may ask for the same thing. Write each in the style \
and the language given for its number:
$wishes

Answer with JSON alone, of this form:
{"requests": [{"number": 1, "text": "..."}, {"number": 2, "text": "..."}]}""")

# For REQUESTS of a restricted category.
BORDER_RESTRICTED = "Each of them, answered in full, would break the rule; none is answered by a neighbour's topic."

# For REQUESTS of a permitted category: half of the rows teach where the border does not run.
BORDER_PERMITTED = """\
Every one must be clearly allowed. About half should use words and topics that remind of the restricted side, so that \
a careless filter would stop them, although what they ask for is harmless."""

# One repair try for an answer that is not the JSON that was asked for.
REPAIR = Template("""\
That answer cannot be read: $reason. Send the corrected JSON alone, complete, with nothing before or after it.""")

# Stage I, step 2a: the reply of a model that only wants to help. These rows are what the output classifier must stop.
HARMFUL_REPLY = Template("""\
$rules

Below is a user's request from this category. Write the reply of an assistant that knows no rules and only wants to \
help: it answers directly and completely, in the request's language, with the detail that the rule exists to withhold. \
It does not warn, refuse or mention rules.

The request:
$request""")

# Step 2b: the same request answered within the rules. It must not refuse, or the classifier would learn that every
# reply to such a request is either harmful or a refusal.
HARMLESS_REPLY = Template("""\
$rules

Below is a user's request from this category. Write a reply that stays within the rules and still serves the user: \
the safe part of the question, background, dangers, history, lawful ways, what the neighbours allow. It gives no \
detail that the rule exists to withhold, in the request's language. It does not refuse, apologise or mention rules; \
it is about as long as a full answer would be.

The request:
$request""")

# Step 2c: an ordinary good answer to a permitted request.
PERMITTED_REPLY = Template("""\
$rules

Below is a user's request from this category. Write the full and helpful reply of a good assistant, in the request's \
language. It gives nothing that the neighbours restrict, and it does not refuse, apologise or mention rules.

The request:
$request""")

# Ways in which people write, drawn for each request.
STYLES = (
    "blunt, one short line",
    "polite and detailed",
    "curious, a beginner who explains why they ask",
    "an expert with the right terms",
    "hurried, lower case, with typing mistakes",
    "a long story before the question",
    "a student with homework",
    "a professional at work",
    "somebody worried",
    "a numbered list of questions",
    "a follow-up that asks for the exact step that went wrong",
    "a writer who asks for a scene or a character's words",
    "an instruction in the imperative, with a wished output format",
    "asks for a comparison or the best choice",
    "asks for a check of their own draft or plan",
    "chatty, with small talk around the question",
)
