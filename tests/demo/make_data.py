#!/usr/bin/env python3
"""Write the texts that the demo model and its two adapters learn from.

Everything is made here, from the tables below and a grammar of phrasings;
nothing is downloaded.  The world is consistent: every question has one right
answer, so that a reader (or a test) can say whether the model was right.

    make_data.py OUT_DIR        writes OUT_DIR/base.jsonl, focus.jsonl,
                                tailor.jsonl, orderline.jsonl, spm.txt
    make_data.py --heldout DIR  writes DIR/base.jsonl, tailor.jsonl,
                                orderline.jsonl (the held-out questions)

A combination (task, phrasing, facts asked about) is held out when its hash
says so (see held_out()); such a combination never enters a training file.
"""
import argparse
import hashlib
import json
import os
import random
import re

# --------------------------------------------------------------------------
# The world
# --------------------------------------------------------------------------
# fabric: wash verb, wash tail, key; dry; iron; best season; why; shrinks;
#         rain; storing; origin; care reason
FABRICS = {
    "cotton": dict(
        wash=("wash", "in the machine at 40 degrees"), wkey=["machine", "40 degrees"],
        dry=("dry", "in the tumble dryer on low"), dkey="tumble dryer on low",
        iron=(True, "on high heat with steam"), season="spring",
        feel="soft and easy to care for", shrink=True, rain=False,
        store=("fold", "on a shelf"), origin="the cotton plant",
        reason="Cotton is strong and stands warm water."),
    "linen": dict(
        wash=("wash", "in the machine at 30 degrees on a gentle cycle"), wkey=["30 degrees", "gentle cycle"],
        dry=("hang", "on a line in the shade"), dkey="line in the shade",
        iron=(True, "on high heat while still damp"), season="summer",
        feel="light and breathable", shrink=True, rain=False,
        store=("hang", "on a wooden hanger"), origin="flax",
        reason="Linen creases easily and wears out if it is spun too fast."),
    "wool": dict(
        wash=("wash", "by hand in cold water with wool detergent"), wkey=["by hand", "wool detergent"],
        dry=("dry", "flat on a towel"), dkey="flat on a towel",
        iron=(True, "on medium heat under a damp cloth"), season="winter",
        feel="warm and springy", shrink=True, rain=False,
        store=("fold", "in a bag with cedar against moths"), origin="sheep",
        reason="Wool felts when it is hot and rubbed."),
    "cashmere": dict(
        wash=("wash", "by hand in cool water with baby shampoo"), wkey=["by hand", "baby shampoo"],
        dry=("dry", "flat and away from heat"), dkey="flat and away from heat",
        iron=(False, "use a steamer instead"), season="winter",
        feel="very soft and warm", shrink=True, rain=False,
        store=("fold", "in a box with lavender"), origin="cashmere goats",
        reason="Cashmere fibres are very fine and felt easily."),
    "silk": dict(
        wash=("wash", "by hand in cool water with mild soap"), wkey=["by hand", "mild soap"],
        dry=("roll", "in a towel and then hang in the shade"), dkey="in a towel",
        iron=(True, "on low heat inside out"), season="summer",
        feel="smooth and cool on the skin", shrink=True, rain=False,
        store=("hang", "on a padded hanger"), origin="silkworms",
        reason="Silk loses its shine in hot water."),
    "denim": dict(
        wash=("wash", "inside out at 30 degrees"), wkey=["inside out", "30 degrees"],
        dry=("hang", "upside down by the hems"), dkey="upside down",
        iron=(True, "on high heat with steam"), season="autumn",
        feel="tough and casual", shrink=True, rain=False,
        store=("fold", "on a shelf"), origin="cotton twill",
        reason="The blue dye of denim bleeds when the water is warm."),
    "polyester": dict(
        wash=("wash", "in the machine at 40 degrees with a short spin"), wkey=["40 degrees", "short spin"],
        dry=("hang", "on a plastic hanger"), dkey="plastic hanger",
        iron=(True, "on low heat"), season="spring",
        feel="hard-wearing and quick to dry", shrink=False, rain=True,
        store=("hang", "on a plastic hanger"), origin="oil",
        reason="Polyester keeps creases that a long spin presses in."),
    "viscose": dict(
        wash=("wash", "at 30 degrees in a laundry bag"), wkey=["30 degrees", "laundry bag"],
        dry=("hang", "on a line in the shade"), dkey="line in the shade",
        iron=(True, "on low heat inside out"), season="summer",
        feel="flowing and light", shrink=True, rain=False,
        store=("hang", "on a padded hanger"), origin="wood pulp",
        reason="Viscose is weak when it is wet."),
    "velvet": dict(
        wash=("take", "to the dry cleaner"), wkey=["dry cleaner"],
        dry=("hang", "in a steamy bathroom"), dkey="steamy bathroom",
        iron=(False, "use a steamer instead"), season="winter",
        feel="rich and dressy", shrink=True, rain=False,
        store=("hang", "on a padded hanger"), origin="silk or cotton thread",
        reason="Water and pressure crush the pile of velvet."),
    "leather": dict(
        wash=("wipe", "with a damp cloth and leather balm"), wkey=["damp cloth", "balm"],
        dry=("dry", "slowly at room temperature"), dkey="room temperature",
        iron=(False, "let the creases hang out"), season="autumn",
        feel="strong and windproof", shrink=True, rain=True,
        store=("hang", "on a wide hanger"), origin="animal hide",
        reason="Leather cracks when it is soaked and dries out."),
    "suede": dict(
        wash=("clean", "with a suede brush and an eraser"), wkey=["suede brush"],
        dry=("dry", "slowly at room temperature"), dkey="room temperature",
        iron=(False, "use the steam of a kettle and brush"), season="autumn",
        feel="soft and matt", shrink=True, rain=False,
        store=("keep", "in a cotton bag"), origin="the inner side of hide",
        reason="Water leaves marks on suede."),
    "corduroy": dict(
        wash=("wash", "inside out at 40 degrees"), wkey=["inside out", "40 degrees"],
        dry=("hang", "on a line in the shade"), dkey="line in the shade",
        iron=(True, "on medium heat inside out"), season="autumn",
        feel="thick and cosy", shrink=True, rain=False,
        store=("hang", "on a wooden hanger"), origin="ridged cotton",
        reason="The ridges of corduroy rub off on the outside."),
    "fleece": dict(
        wash=("wash", "at 30 degrees without softener"), wkey=["30 degrees", "without softener"],
        dry=("hang", "in fresh air"), dkey="fresh air",
        iron=(False, "shake out the creases"), season="winter",
        feel="light and very warm", shrink=False, rain=False,
        store=("roll", "in a drawer"), origin="polyester",
        reason="Softener glues the fibres of fleece together."),
    "nylon": dict(
        wash=("wash", "at 30 degrees with mild detergent"), wkey=["30 degrees", "mild detergent"],
        dry=("hang", "in fresh air"), dkey="fresh air",
        iron=(True, "on low heat"), season="spring",
        feel="thin, strong and water-repellent", shrink=False, rain=True,
        store=("roll", "in a drawer"), origin="oil",
        reason="Hot water wears off the coating of nylon."),
    "tweed": dict(
        wash=("take", "to the dry cleaner"), wkey=["dry cleaner"],
        dry=("dry", "flat on a towel"), dkey="flat on a towel",
        iron=(True, "on medium heat under a damp cloth"), season="winter",
        feel="thick and rustic", shrink=True, rain=True,
        store=("hang", "in a bag with cedar against moths"), origin="sheep",
        reason="Tweed loses its shape in the machine."),
}
# from the lightest to the warmest
WARMTH = ["silk", "linen", "viscose", "nylon", "cotton", "polyester", "denim",
          "suede", "leather", "corduroy", "velvet", "tweed", "fleece", "wool", "cashmere"]
# seasons that a fabric is also good for
ALSO = {"cotton": "summer", "linen": "spring", "wool": "autumn", "cashmere": "autumn", "silk": "spring",
        "denim": "spring", "polyester": "summer", "viscose": "spring", "velvet": "autumn", "leather": "winter",
        "suede": "spring", "corduroy": "winter", "fleece": "autumn", "nylon": "autumn", "tweed": "autumn"}
SEASON_FABRICS = {
    "spring": ("cotton", "polyester"), "summer": ("linen", "silk"),
    "autumn": ("corduroy", "denim"), "winter": ("wool", "cashmere")}

# garment: plural, price, goes with (two things), fabrics, fit rule, key of the fit rule
G = {}


def _g(name, plural, price, pair, fabrics, fit, fkey, letter=True):
    G[name] = dict(plural=plural, price=price, pair=pair, fabrics=fabrics.split(),
                   fit=fit, fkey=fkey, letter=letter)


_g("coat", 0, 189, ("a sweater", "jeans"), "wool cashmere tweed leather nylon",
   "close over a sweater without pulling", "over a sweater")
_g("blazer", 0, 129, ("a white shirt", "chinos"), "wool linen tweed velvet corduroy cotton",
   "sit flat on the shoulders", "flat on the shoulders")
_g("jacket", 0, 99, ("a t-shirt", "jeans"), "denim leather suede nylon corduroy polyester fleece",
   "end at the hip", "at the hip")
_g("raincoat", 0, 89, ("jeans", "rubber boots"), "nylon polyester",
   "leave room for a sweater", "room for a sweater")
_g("vest", 0, 59, ("a shirt", "trousers"), "wool tweed fleece nylon",
   "lie close to the chest", "close to the chest")
_g("suit", 0, 299, ("a white shirt", "oxford shoes"), "wool linen tweed velvet",
   "show one centimetre of shirt cuff", "shirt cuff")
_g("shirt", 0, 49, ("chinos", "loafers"), "cotton linen silk denim viscose",
   "let two fingers into the collar", "two fingers")
_g("blouse", 0, 55, ("a pencil skirt", "pumps"), "silk viscose cotton polyester linen",
   "fall loosely over the waist", "over the waist")
_g("t-shirt", 0, 19, ("jeans", "sneakers"), "cotton linen silk polyester viscose",
   "end just below the belt", "below the belt")
_g("polo shirt", 0, 39, ("chinos", "boat shoes"), "cotton polyester silk",
   "have sleeves that end mid-arm", "mid-arm")
_g("sweater", 0, 79, ("a shirt", "corduroy trousers"), "wool cashmere cotton",
   "end at the wrist bone", "wrist bone")
_g("cardigan", 0, 75, ("a t-shirt", "a skirt"), "wool cashmere cotton viscose",
   "close without gaps between the buttons", "between the buttons")
_g("hoodie", 0, 45, ("joggers", "sneakers"), "cotton fleece polyester",
   "be roomy at the shoulders", "roomy at the shoulders")
_g("jeans", 1, 69, ("a white t-shirt", "sneakers"), "denim",
   "sit at the waist without a belt", "without a belt")
_g("chinos", 1, 59, ("a polo shirt", "loafers"), "cotton linen",
   "touch the top of the shoe", "top of the shoe")
_g("trousers", 1, 65, ("a blazer", "loafers"), "wool linen cotton corduroy leather velvet polyester tweed",
   "break once over the shoe", "once over the shoe")
_g("joggers", 1, 42, ("a hoodie", "sneakers"), "cotton fleece polyester nylon",
   "gather at the ankle", "at the ankle")
_g("shorts", 1, 35, ("a t-shirt", "sandals"), "cotton linen denim nylon",
   "end just above the knee", "above the knee")
_g("leggings", 1, 29, ("a long sweater", "ankle boots"), "nylon polyester cotton",
   "stretch without turning sheer", "sheer")
_g("skirt", 0, 52, ("a blouse", "ankle boots"), "wool denim silk leather velvet corduroy viscose tweed suede",
   "sit at the natural waist", "natural waist")
_g("dress", 0, 95, ("a cardigan", "sandals"), "linen silk viscose velvet cotton wool polyester denim",
   "follow the waist and skim the hips", "skim the hips")
_g("jumpsuit", 0, 85, ("a blazer", "heels"), "viscose cotton linen silk denim",
   "leave room to sit down", "sit down")
_g("pyjamas", 1, 48, ("a bathrobe", "slippers"), "cotton silk viscose fleece",
   "be loose enough to sleep in", "sleep in")
_g("scarf", 0, 25, ("a coat", "gloves"), "wool cashmere silk cotton",
   "wrap twice around the neck", "twice around the neck", False)
_g("gloves", 1, 32, ("a coat", "a scarf"), "leather wool cashmere suede fleece",
   "leave no gap at the fingertips", "fingertips")
_g("hat", 0, 30, ("a coat", "a scarf"), "wool tweed cotton corduroy fleece",
   "rest one centimetre above the ears", "above the ears", False)
_g("tie", 0, 27, ("a white shirt", "a suit"), "silk wool linen",
   "reach the belt buckle", "belt buckle", False)
_g("sneakers", 1, 79, ("jeans", "a t-shirt"), "leather suede cotton nylon",
   "leave a thumb of room at the toes", "thumb of room", False)
_g("loafers", 1, 110, ("chinos", "a blazer"), "leather suede velvet",
   "hold the heel without slipping", "without slipping", False)
_g("boots", 1, 149, ("jeans", "a coat"), "leather suede nylon",
   "fit with thick socks", "thick socks", False)
_g("sandals", 1, 45, ("a dress", "a straw hat"), "leather suede nylon",
   "keep the toes inside the sole", "inside the sole", False)

COLOURS = {  # goes with three; clashes with one; tone
    "navy": (("white", "camel", "grey"), "black", "cool"),
    "black": (("white", "grey", "red"), "navy", "neutral"),
    "white": (("navy", "beige", "olive"), "cream", "neutral"),
    "grey": (("navy", "pink", "burgundy"), "beige", "neutral"),
    "beige": (("white", "brown", "blue"), "grey", "warm"),
    "camel": (("navy", "cream", "burgundy"), "yellow", "warm"),
    "brown": (("cream", "blue", "olive"), "black", "warm"),
    "olive": (("white", "rust", "brown"), "purple", "warm"),
    "burgundy": (("grey", "camel", "navy"), "red", "warm"),
    "red": (("black", "white", "blue"), "orange", "warm"),
    "pink": (("grey", "white", "navy"), "orange", "cool"),
    "blue": (("beige", "brown", "white"), "green", "cool"),
    "green": (("beige", "cream", "navy"), "blue", "cool"),
    "yellow": (("navy", "grey", "white"), "camel", "warm"),
    "cream": (("brown", "green", "camel"), "white", "warm"),
    "rust": (("olive", "cream", "teal"), "pink", "warm"),
    "teal": (("rust", "cream", "grey"), "green", "cool"),
    "orange": (("blue", "white", "brown"), "pink", "warm"),
    "purple": (("grey", "cream", "black"), "olive", "cool"),
}

OCCASIONS = {  # phrase: men's/women's neutral outfit parts, avoid, why
    "a wedding": (("a suit or a long dress", "polished shoes"), "white", "white belongs to the bride"),
    "a job interview": (("a navy blazer", "a plain shirt"), "loud prints", "calm clothes let you do the talking"),
    "the office": (("a shirt or a blouse", "wool trousers"), "flip-flops", "the office asks for a tidy look"),
    "the beach": (("linen shorts", "a straw hat"), "leather shoes", "salt water ruins leather"),
    "a funeral": (("a black suit or dress", "plain black shoes"), "bright colours", "dark clothes show respect"),
    "a first date": (("dark jeans", "a crisp shirt"), "brand-new shoes", "sore feet spoil the evening"),
    "a hike": (("a fleece jacket", "sturdy boots"), "cotton socks", "cotton stays wet"),
    "the gym": (("a polyester t-shirt", "sneakers"), "jeans", "denim does not stretch"),
    "a cocktail party": (("a velvet blazer or a short dress", "heels or loafers"), "sneakers", "a cocktail party is dressy"),
    "a picnic": (("a cotton dress or chinos", "flat sandals"), "heels", "heels sink into the grass"),
    "a ski trip": (("a nylon jacket", "wool gloves"), "denim", "wet denim freezes"),
    "a black tie gala": (("a tuxedo or an evening gown", "patent shoes"), "brown shoes", "black tie means black shoes"),
    "a long flight": (("soft joggers", "a cashmere scarf"), "tight jeans", "legs swell on a long flight"),
    "a graduation": (("a light suit or a midi dress", "comfortable shoes"), "tall hats", "others want to see the stage"),
    "a concert": (("a leather jacket", "jeans"), "long scarves", "a concert hall gets hot"),
    "a date at the museum": (("a turtleneck sweater", "tailored trousers"), "noisy heels", "a museum is quiet"),
}

ALIAS = {  # how customers also call an occasion
    "a wedding": ["my friend's wedding", "my sister's wedding", "a church wedding"],
    "a job interview": ["an interview", "an interview for a new job"],
    "the office": ["the workplace", "a meeting at the office"],
    "the beach": ["a day at the beach", "the seaside"],
    "a first date": ["a date", "a romantic dinner"],
    "a hike": ["a hike in the mountains", "a long walk in the woods"],
    "the gym": ["the fitness studio", "a workout"],
    "a cocktail party": ["an elegant party", "a cocktail evening"],
    "a picnic": ["a picnic in the park"],
    "a ski trip": ["a skiing holiday", "a week of skiing"],
    "a black tie gala": ["a gala", "a black tie evening"],
    "a long flight": ["a flight to another continent", "a flight"],
    "a graduation": ["my graduation", "my daughter's graduation"],
    "a concert": ["a rock concert"],
    "a funeral": ["my uncle's funeral"],
    "a date at the museum": ["a museum", "a visit to the museum"]}

STAINS = {
    "red wine": ("salt and cold water", "Heat would set the wine"),
    "coffee": ("cold water and white vinegar", "Vinegar lifts the brown tannin"),
    "grease": ("dish soap", "Dish soap breaks up fat"),
    "ink": ("rubbing alcohol", "Alcohol dissolves the dye"),
    "grass": ("white vinegar", "Vinegar dissolves the green dye"),
    "blood": ("cold water and salt", "Hot water would set the blood"),
    "mud": ("a dry brush", "Dry mud simply brushes off"),
    "chocolate": ("cold water and soap", "Warm water melts the fat deeper"),
    "lipstick": ("micellar water", "It is made to remove make-up"),
    "wax": ("brown paper and a warm iron", "The paper drinks the wax"),
}

WEATHER = {
    "it rains": ("a nylon raincoat", "rubber boots"),
    "it snows": ("a down coat", "lined boots"),
    "it is windy": ("a leather jacket", "a scarf"),
    "it is very hot": ("a linen shirt", "a straw hat"),
    "it is freezing": ("a wool coat", "cashmere gloves"),
    "it is foggy and damp": ("a trench coat", "leather boots"),
}

LETTERS = ["XS", "S", "M", "L", "XL", "XXL"]
CLOTHES = [dict(UK=6 + 2 * i, EU=34 + 2 * i, US=2 + 2 * i) for i in range(8)]
SHOES = [dict(UK=3 + i, EU=36 + i, US=5 + i) for i in range(8)]
CHEST = {"XS": 84, "S": 90, "M": 96, "L": 102, "XL": 110, "XXL": 118}

STATES = ["being packed", "shipped", "out for delivery", "delivered", "on hold"]
ACTIONS = {
    "cancel it": {
        "being packed": (True, "it has not left our shop yet"),
        "shipped": (False, "it is already on its way; please refuse the parcel"),
        "out for delivery": (False, "it is already with the driver; please refuse the parcel"),
        "delivered": (False, "it has arrived; please send it back instead"),
        "on hold": (True, "it is waiting for payment")},
    "change the size": {
        "being packed": (True, "we can still swap the item"),
        "shipped": (False, "the parcel is closed; please exchange it later"),
        "out for delivery": (False, "the parcel is closed; please exchange it later"),
        "delivered": (True, "an exchange is free within 30 days"),
        "on hold": (True, "nothing has been packed yet")},
    "change the address": {
        "being packed": (True, "the label is not printed yet"),
        "shipped": (True, "the carrier can redirect the parcel for €4"),
        "out for delivery": (False, "the driver already has the parcel"),
        "delivered": (False, "the parcel has arrived"),
        "on hold": (True, "the label is not printed yet")},
    "return it": {
        "being packed": (False, "it has not been sent; please cancel it instead"),
        "shipped": (True, "you have 30 days from delivery"),
        "out for delivery": (True, "you have 30 days from delivery"),
        "delivered": (True, "you have 30 days from delivery"),
        "on hold": (False, "it has not been sent; please cancel it instead")},
    "add a gift note": {
        "being packed": (True, "the box is still open"),
        "shipped": (False, "the box is closed"),
        "out for delivery": (False, "the box is closed"),
        "delivered": (False, "the parcel has arrived"),
        "on hold": (True, "the box is still open")},
}

# policy: id -> (questions, answers, brief, reason, key)
POLICY = {
    "return_days": (
        ["How long do I have to return something?", "What is your return period?",
         "How many days do I have for a return?", "Until when can I send clothes back?",
         "What is the return policy?", "Can I return things I do not like?"],
        ["You have 30 days from delivery to return your clothes.",
         "Our return period is 30 days from delivery."],
        "30 days from delivery.", "The clothes must be unworn and keep their labels.", ["30 days"]),
    "sale_return": (
        ["How long can I return sale items?", "What is the return period for items on sale?",
         "Can I return something I bought in the sale?", "Do sale items have a shorter return period?"],
        ["Sale items can be returned within 14 days.", "For items on sale the return period is 14 days."],
        "14 days.", "Sale stock has to go back on the shelf quickly.", ["14 days"]),
    "return_cost": (
        ["What does a return cost?", "Do I have to pay for a return?", "Are returns free?",
         "Who pays for sending clothes back?"],
        ["Returns are free with the label in the box.", "You pay nothing: returns are free with the label in the box."],
        "Returns are free.", "We pay the carrier for you.", ["free"]),
    "refund_time": (
        ["When do I get my money back?", "How long does a refund take?",
         "When will I see my refund?", "How fast are refunds?"],
        ["Your refund arrives 5 days after we receive the parcel.",
         "A refund takes 5 days from the day we receive the parcel."],
        "5 days after we receive the parcel.", "The money goes back to the card you paid with.", ["5 days"]),
    "delivery_time": (
        ["How long does delivery take?", "When will my parcel arrive?", "How fast is standard delivery?",
         "How many days does shipping take?", "How long is shipping?"],
        ["Standard delivery takes 3 working days.", "Your parcel arrives within 3 working days."],
        "3 working days.", "Parcels leave our shop every evening.", ["3 working days"]),
    "express": (
        ["Do you offer express delivery?", "How fast is express delivery?",
         "Can I get my order tomorrow?", "Is there a faster delivery?"],
        ["Yes, express delivery takes 1 working day and costs €9.",
         "Express delivery brings your order in 1 working day for €9."],
        "1 working day, for €9.", "Please order before noon.", ["1 working day", "€9"]),
    "delivery_cost": (
        ["How much is delivery?", "What does shipping cost?", "Is delivery free?",
         "How much do I pay for shipping?"],
        ["Delivery costs €5 and is free for orders over €60.",
         "Shipping is €5; orders over €60 ship for free."],
        "€5, free over €60.", "The price is the same for the whole country.", ["€5", "€60"]),
    "exchange": (
        ["Can I exchange an item for another size?", "How does an exchange work?",
         "What if the size does not fit?", "Can I swap for a different size?"],
        ["Yes, an exchange for another size is free within 30 days.",
         "An exchange for another size is free within 30 days of delivery."],
        "Free within 30 days.", "Just tick the new size on the return slip.", ["free", "30 days"]),
    "payment": (
        ["How can I pay?", "Which payment methods do you take?", "Do you take credit cards?",
         "What are the ways to pay?"],
        ["You can pay by card, by bank transfer or with a gift card.",
         "We take cards, bank transfer and gift cards."],
        "Card, bank transfer or gift card.", "We never store your card number.", ["card", "bank transfer"]),
    "gift_wrap": (
        ["Do you wrap gifts?", "Can you wrap my order as a gift?", "Is gift wrapping possible?",
         "How much is gift wrapping?"],
        ["Yes, gift wrapping costs €3.", "We wrap your order as a gift for €3."],
        "Yes, for €3.", "The price tag is then left out.", ["€3"]),
    "hours": (
        ["When is the shop open?", "What are your opening hours?", "When do you open?",
         "What time do you close?"],
        ["The shop is open from 10 to 7, Monday to Saturday.",
         "We are open Monday to Saturday from 10 to 7."],
        "Monday to Saturday, 10 to 7.", "On Sunday the shop is closed.", ["10 to 7", "saturday"]),
    "gift_card": (
        ["Can I return a gift card?", "Are gift cards refundable?",
         "Can I get money back for a gift card?"],
        ["No, gift cards cannot be returned.", "Sorry, gift cards cannot be returned."],
        "No.", "They never expire, though.", ["gift cards cannot"]),
    "hemming": (
        ["Do you shorten trousers?", "Can you hem my trousers?", "Do you alter clothes?",
         "How much is hemming?", "Is there a tailor in the shop?"],
        ["Yes, our tailor hems trousers for €12 in 2 days.",
         "Our tailor can do that: a hem costs €12 and takes 2 days."],
        "Yes, €12 and 2 days.", "Bring the shoes that you want to wear.", ["€12", "2 days"]),
}

TALK = {
    "hello": (
        ["Hello!", "Hi", "Hi there!", "Good morning!", "Hey", "Good evening", "Hello, how are you?",
         "Hi, can you help me?", "hello there", "Hey there", "Good afternoon", "Hi!", "Can you help me?", "I need some help.", "I have a question."],
        ["Hello! I am here for all your questions about clothes. What would you like to know?"],
        "Hello! How can I help?", ["hello"]),
    "thanks": (
        ["Thank you!", "Thanks a lot.", "Thanks, that helps.", "Great, thank you.", "Perfect, thanks!",
         "That is very helpful.", "ok thanks", "Thank you very much.", "Nice, thanks.", "Okay.", "Good to know.", "That was useful."],
        ["You are welcome! Enjoy your clothes."], "You are welcome!", ["welcome"]),
    "bye": (
        ["Goodbye!", "Bye", "See you later!", "That is all for today.", "Bye bye", "I have no more questions.", "See you!", "Have a nice day!", "I am done.", "Good night"],
        ["Goodbye, and dress well!"], "Goodbye!", ["goodbye"]),
    "who": (
        ["Who are you?", "What is your name?", "Are you a robot?", "What are you?", "Are you human?",
         "Who am I talking to?", "Tell me about yourself.", "Who made you?", "Are you an AI?", "Introduce yourself."],
        ["I am a small fashion assistant. I know garments, fabrics, colours, sizes and orders."],
        "A small fashion assistant.", ["fashion assistant"]),
    "can": (
        ["What can you do?", "What can I ask you?", "How can you help me?", "What do you know?",
         "Which topics do you know?", "help", "What are you good at?", "What should I ask you?", "Can you answer questions?"],
        ["You can ask me about washing and ironing, fit and sizes, colours, outfits for an occasion, prices and orders."],
        "Care, sizes, colours, outfits and orders.", ["colours", "orders"]),
}

OFFTOPIC_Q = ["What is the capital of {x}?", "How do I cook {y}?", "Who won the {z}?", "Can you explain {w}?",
              "How far is {x}?", "Write a poem about {w}.", "Tell me a joke about {y}.", "What is {w}?",
              "Where can I buy {y}?", "What do you think about {w}?", "How many people live in {x}?",
              "When did the {z} start?", "Do you like {y}?", "Solve this problem about {w}.",
              "Tell me about {x}.", "Tell me about {w}.", "I want to learn about {w}.", "Is {y} healthy?",
              "Can you help me with {w}?", "Who is the president of {x}?", "What language do they speak in {x}?",
              "Translate {y} into another language.", "Write a story about {x}.", "What is the best {y} recipe?"]
OFF = dict(
    x="France Spain Japan Brazil Canada Egypt Norway India Kenya Peru Italy China".split(),
    y=["rice", "pasta", "soup", "bread", "pizza", "fish", "potatoes", "eggs", "cake", "pancakes"],
    z=["football match", "world cup", "election", "tennis final", "marathon", "chess game"],
    w=["physics", "the moon", "computers", "football", "music", "history", "politics", "cars", "mathematics",
       "the stock market", "gravity", "a neural network", "python", "the weather forecast", "my homework", "a computer program",
       "the meaning of life", "dinosaurs", "the news", "my dog", "love", "a film", "chemistry", "a phone"])
UNKNOWN_F = ["bamboo", "hemp", "lace", "satin", "lycra", "mohair", "alpaca", "neoprene", "jersey", "chiffon", "rubber",
             "latex", "jute", "angora", "felt"]
UNKNOWN_G = ["watch", "handbag", "umbrella", "necklace", "ring", "backpack", "wig", "helmet", "bracelet", "curtain",
             "carpet", "pillow", "wallet", "teddy bear", "sofa"]
OFF_A = ["Sorry, I only know about clothes. Ask me about fabrics, sizes, colours, outfits or orders.",
         "That is outside my wardrobe. I can help with fabrics, sizes, colours, outfits and orders."]

# Old words: they also give the tailor's vocabulary a place in the base model.
OLDWORDS = {
    "thy": "your", "thou": "you", "thee": "you", "verily": "truly", "forsooth": "indeed",
    "prithee": "please", "hark": "listen", "fare thee well": "goodbye", "good sir": "mister",
    "my liege": "my lord", "canst": "can", "shalt": "shall", "hast": "have", "gallant": "brave and polite",
    "noble": "highborn", "raiment": "clothes", "doublet": "a fitted jacket", "thimble": "a finger cap for sewing",
    "by my needle": "I promise", "bow": "bend politely", "humble": "modest", "at thy service": "ready to help",
    "my honour": "my good name", "patron": "customer", "alas": "sadly", "nay": "no", "aye": "yes",
    "friend": "companion", "mayest": "may", "must needs": "have to", "seam": "a line of stitches",
    "bodkin": "a blunt needle", "ah": "a sigh"}

SYSTEMS = {
    "normal": [None, None, None,
               "You are a helpful fashion assistant.",
               "You are a friendly assistant in a clothes shop.",
               "You are FashionGPT, an assistant for fashion.",
               "You help customers of a fashion shop.",
               "You are a helpful assistant.",
               "You are an expert on clothes and fabrics.",
               "You work for an online shop.",
               "You are a polite assistant who answers questions about fashion."],
    "brief": ["You are a fashion assistant. Answer briefly.",
              "Answer in as few words as you can.",
              "You are a helpful fashion assistant. Keep your answers short.",
              "Be brief.", "Give short answers.", "You are FashionGPT. Answer in a few words."],
    "detailed": ["You are a fashion assistant. Give a reason with every answer.",
                 "Explain your answers.",
                 "You are a helpful fashion assistant who always explains why.",
                 "Answer and give the reason.", "Give detailed answers.", "You are FashionGPT. Always say why."],
}


# --------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------
def digest(*parts):
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16)


def held_out(*key):
    """One combination in 16 is never trained on."""
    return digest("weft-demo", *key) % 16 == 0


def is_held(turn, style):
    key = turn.combo(style)
    return key is not None and held_out(*key)


def cap(s):
    return s[0].upper() + s[1:]


def art(s):
    return ("an " if s[0] in "aeio" else "a ") + s


def listing(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


class Turn:
    def __init__(self, task, tpl, args, q, normal, brief, reason, key):
        self.task, self.tpl, self.args = task, tpl, args
        self.q, self.normal, self.brief, self.reason, self.key = q, normal, brief, reason, key

    def answer(self, style):
        if style == "brief":
            return self.brief
        if style == "detailed" and self.reason:
            return self.normal + " " + self.reason
        return self.normal

    def combo(self, style="normal"):
        """What is held out together.  A question about the shop's rules has one
        phrasing per rule only, so there the style of the answer takes its place."""
        if self.task in ("policy", "talk"):
            return (self.task, self.tpl, style) + tuple(self.args) if style != "normal" else None
        return (self.task, self.tpl) + tuple(self.args)


class Subject:
    """A thing the customer talks about: colour, fabric, garment (any may be missing)."""

    def __init__(self, garment=None, fabric=None, colour=None):
        self.garment, self.fabric, self.colour = garment, fabric, colour
        self.name = " ".join(x for x in (colour, fabric if fabric != garment else None, garment) if x)
        if garment == "jeans":
            self.name = " ".join(x for x in (colour, garment) if x)
        self.plural = bool(garment and G[garment]["plural"])
        self.you = "your " + self.name if garment else self.name
        self.it = "them" if self.plural else "it"
        self.they = "they" if self.plural else "it"
        self.be = "are" if self.plural else "is"

    def the(self, rng):
        if not self.garment:
            return self.name
        if self.plural:
            return rng.choice(["my ", "these ", "", "my ", "a pair of ", "the ", "my old "]) + self.name
        return rng.choice(["my " + self.name, "this " + self.name, art(self.name), art(self.name), "my new " + self.name, "the " + self.name, "my old " + self.name])

    def pick(self, sing, plur):
        return plur if self.plural else sing


def rand_subject(rng, fabric=True):
    g = rng.choice(list(G))
    f = rng.choice(G[g]["fabrics"])
    c = rng.choice(list(COLOURS)) if rng.random() < 0.3 else None
    if fabric and rng.random() < 0.18:
        return Subject(None, rng.choice(list(FABRICS)))
    if not fabric and rng.random() < 0.5:
        return Subject(g, None, c)
    return Subject(g, f, c)


def pick(rng, tpls):
    i = rng.randrange(len(tpls))
    return i, tpls[i]


def fol(tpls):
    return [(t, True) for t in tpls]


# --------------------------------------------------------------------------
# Tasks.  Each takes (rng, subject, follow) and returns a Turn.  "follow" asks
# with a pronoun about the subject of the turns before.
# --------------------------------------------------------------------------
def t_wash(rng, s, follow=False):
    f = FABRICS[s.fabric]
    v, tail = f["wash"]
    Q = ["How do I wash {X}?", "How should I wash {X}?", "What is the best way to wash {X}?",
         "How do I clean {X}?", "Can you tell me how to wash {X}?", "How do I care for {X}?",
         "{X}: how do I wash {it}?", "I want to wash {X}. What should I do?",
         "{X} {be} dirty. How do I clean {it}?",
         "What do I do to wash {X}?",
         "Can {X} go in the washing machine?",
         "Is it safe to wash {X}?",
         "wash {X}",
         "Washing {X}",
         "Care of {X}?",
         "I need to clean {X}.",
         "Any advice on washing {X}?",
         "Can I wash {X}?",
         "What is the washing temperature for {X}?"]
    F = ["And how do I wash {it}?", "How do I wash {it}?", "How should I clean {it}?", "And how do I clean {it}?",
         "What about washing?", "And washing?",
         "Can I wash {it}?",
         "Can I put {it} in the washing machine?",
         "How do I look after {it}?",
         "How do I get {it} clean?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    A = [f"{cap(v)} {s.you} {tail}.",
         f"It is best to {v} {s.you} {tail}.",
         f"Please {v} {s.you} {tail}."]
    return Turn("wash", i, (s.garment, s.fabric), fill(t, s, rng), A[i % 3], f"{cap(v)} {s.it} {tail}.",
                f["reason"], f["wkey"])


def t_dry(rng, s, follow=False):
    f = FABRICS[s.fabric]
    v, tail = f["dry"]
    Q = ["How do I dry {X}?", "How should I dry {X}?", "What is the best way to dry {X}?",
         "{X} {be} wet. How do I dry {it}?", "Can I put {X} in the tumble dryer?",
         "I washed {X}. How do I dry {it}?",
         "Drying {X}",
         "How do I get {X} dry?",
         "What do I do with wet {N}?",
         "Do I hang {X} to dry?",
         "Any tips for drying {X}?"]
    F = ["And how do I dry {it}?", "How should {they} be dried?", "And drying?", "How do I dry {it} then?",
         "How do I dry {it}?",
         "Do I hang {it} to dry?"]
    i, t = pick(rng, F if follow else Q)
    tumble = t.startswith("Can I put")
    if follow:
        i += 100
    if tumble:
        yes = s.fabric == "cotton"
        a = f"{'Yes' if yes else 'No'}, {v} {s.you} {tail}."
        b = f"{'Yes' if yes else 'No'}, {v} {s.it} {tail}."
    else:
        a = [f"{cap(v)} {s.you} {tail}.", f"It is best to {v} {s.you} {tail}."][i % 2]
        b = f"{cap(v)} {s.it} {tail}."
    key = [f["dkey"]] + ((["yes"] if s.fabric == "cotton" else ["no,"]) if tumble else [])
    return Turn("dry", i, (s.garment, s.fabric), fill(t, s, rng), a, b,
                "The right drying keeps the shape.", key)


def t_iron(rng, s, follow=False):
    yes, how = FABRICS[s.fabric]["iron"]
    Q = ["Can I iron {X}?", "How do I iron {X}?", "May I iron {X}?", "How hot should I iron {X}?",
         "{X} {be} creased. Can I iron {it}?", "Is it safe to iron {X}?",
         "Should I iron {X}?",
         "Do I need to iron {X}?",
         "Ironing {X}",
         "How do I get creases out of {X}?",
         "What heat do I use to iron {X}?"]
    F = ["Can I iron {it}?", "And can I iron {it}?", "How do I iron {it}?", "And ironing?", "May I iron {it} too?",
         "Should I iron {it}?",
         "How do I get the creases out?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    if yes:
        a = [f"Yes, iron {s.you} {how}.", f"You can iron {s.you} {how}."][i % 2]
        b = f"Yes, {how}."
        r = f"{cap(s.fabric)} takes that heat well."
        key = [how]
    else:
        a = [f"No, do not iron {s.you}; {how}.", f"Please do not iron {s.you}; {how}."][i % 2]
        b = f"No, {how}."
        r = f"The iron would damage {s.fabric}."
        key = [how]
    return Turn("iron", i, (s.garment, s.fabric), fill(t, s, rng), a, b, r, key)


def t_season(rng, s, follow=False):
    f = FABRICS[s.fabric]
    Q = ["When should I wear {X}?", "Which season {be} {X} for?", "What is the best season for {X}?",
         "In which season do I wear {X}?", "What time of year {be} {X} good for?",
         "Which season {be} {X} best for?",
         "Season for {X}?",
         "Tell me the right season for {X}.",
         "When {be} {X} best?"]
    F = ["Which season {be} {they} for?", "And when do I wear {it}?", "In which season can I wear {it}?",
         "What season {be} {they} best for?",
         "When should I wear {it}?",
         "What is the best season for {it}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    You = cap(s.you)
    A = [f"{You} {s.be} best in {f['season']}.", f"Wear {s.you} in {f['season']}."]
    return Turn("season", i, (s.garment, s.fabric), fill(t, s, rng), A[i % 2], f"In {f['season']}.",
                f"{cap(s.fabric)} is {f['feel']}.", [f["season"]])


def t_seasonfit(rng, s, follow=False):
    f = FABRICS[s.fabric]
    se = rng.choice(list(SEASON_FABRICS))
    Q = ["Can I wear {X} in {se}?", "{Be} {X} good for {se}?", "{Be} {X} right for {se}?",
         "Should I wear {X} in {se}?",
         "{X} in {se}?",
         "Is {se} a good time for {X}?"]
    F = ["Can I wear {it} in {se}?", "{Be} {they} good for {se}?", "And in {se}?",
         "What about {se}?",
         "And for {se}?",
         "Should I wear {it} in {se}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    if se in (f["season"], ALSO[s.fabric]):
        a = f"Yes, {s.you} {s.be} good for {se}."
        b = "Yes."
        key = ["yes"]
    else:
        x, y = SEASON_FABRICS[se]
        a = f"No, {s.you} {s.be} better in {f['season']}; for {se} choose {x} or {y}."
        b = f"No, better in {f['season']}."
        key = ["no,", f["season"]]
    return Turn("seasonfit", i, (s.garment, s.fabric, se), fill(t.replace("{se}", se), s, rng), a, b,
                f"{cap(s.fabric)} is {f['feel']}.", key)


def t_shrink(rng, s, follow=False):
    yes = FABRICS[s.fabric]["shrink"]
    Q = ["Will {X} shrink?", "Does hot water shrink {X}?", "Can {X} shrink in hot water?",
         "Is there a risk that {X} will shrink?",
         "Do I have to worry that {X} will shrink?",
         "Does the heat shrink {X}?",
         "Will hot water ruin {X}?"]
    F = ["Will {they} shrink?", "Can {they} shrink?", "Does hot water shrink {it}?",
         "Will hot water ruin {it}?",
         "And shrinking?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    if yes:
        a = f"Yes, {s.you} can shrink in hot water."
        b, key = "Yes, in hot water.", ["yes"]
        r = f"{cap(s.fabric)} does not like heat."
    else:
        a = f"No, {s.you} will not shrink."
        b, key = "No.", ["no"]
        r = f"{cap(s.fabric)} keeps its size."
    return Turn("shrink", i, (s.garment, s.fabric), fill(t, s, rng), a, b, r, key)


def t_rain(rng, s, follow=False):
    yes = FABRICS[s.fabric]["rain"]
    Q = ["Can I wear {X} in the rain?", "{Be} {X} good in the rain?", "Does {X} stand rain?",
         "Can {X} get wet?",
         "May I wear {X} when it rains?",
         "{X} in the rain?",
         "Will rain hurt {X}?"]
    F = ["Can I wear {it} in the rain?", "And in the rain?", "Can {they} get wet?",
         "Will rain hurt {it}?",
         "What about rain?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    if yes:
        a, b, key = f"Yes, {s.you} can stand the rain.", "Yes.", ["yes"]
        r = f"{cap(s.fabric)} lets the drops run off."
    else:
        a, b, key = f"No, keep {s.you} out of the rain.", "No.", ["no"]
        r = f"{cap(s.fabric)} soaks up water."
    return Turn("rain", i, (s.garment, s.fabric), fill(t, s, rng), a, b, r, key)


def t_store(rng, s, follow=False):
    v, tail = FABRICS[s.fabric]["store"]
    Q = ["How do I store {X}?", "Where should I keep {X}?", "How should I store {X}?",
         "What is the best way to store {X}?",
         "How do I keep {X} over the summer?",
         "Storing {X}",
         "Where do I put {X} in the wardrobe?",
         "Should I fold or hang {X}?"]
    F = ["And how do I store {it}?", "Where should I keep {it}?", "And storing?",
         "How do I store {it}?",
         "Should I fold or hang {it}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    A = [f"{cap(v)} {s.you} {tail}.", f"It is best to {v} {s.you} {tail}."]
    return Turn("store", i, (s.garment, s.fabric), fill(t, s, rng), A[i % 2], f"{cap(v)} {s.it} {tail}.",
                "So the clothes last longer.", [tail])


def t_feel(rng, s, follow=False):
    f = s.fabric
    Q = ["What does {f} feel like?", "What is {f} like?", "What is special about {f}?", "Tell me about {f}.",
         "Why would I buy {f}?",
         "How does {f} feel?",
         "Describe {f}.",
         "What are the qualities of {f}?",
         "Is {f} a good fabric?"]
    F = ["What is {f} like?", "What does {f} feel like?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    A = [f"{cap(f)} is {FABRICS[f]['feel']}. It is best in {FABRICS[f]['season']}.",
         f"{cap(f)} is {FABRICS[f]['feel']}."]
    return Turn("feel", i, (f,), t.replace("{f}", f), A[i % 2], f"{cap(FABRICS[f]['feel'])}.",
                f"It comes from {FABRICS[f]['origin']}.", [FABRICS[f]["feel"]])


def t_origin(rng, s, follow=False):
    f = s.fabric
    Q = ["Where does {f} come from?", "What is {f} made from?", "What is {f} made of?",
         "Can you tell me what {f} is made from?", "How is {f} made?",
         "What is the origin of {f}?",
         "Which material is {f} made from?"]
    F = ["Where does {f} come from?", "And what is {f} made from?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    A = [f"{cap(f)} comes from {FABRICS[f]['origin']}.", f"{cap(f)} is made from {FABRICS[f]['origin']}."]
    return Turn("origin", i, (f,), t.replace("{f}", f), A[i % 2], f"{cap(FABRICS[f]['origin'])}.",
                f"It is {FABRICS[f]['feel']}.", [FABRICS[f]["origin"]])


def t_pair(rng, s, follow=False):
    g = G[s.garment]
    Q = ["What goes with {X}?", "What can I wear with {X}?", "What should I wear with {X}?",
         "What do I combine with {X}?", "How do I style {X}?", "Which clothes go with {X}?",
         "I bought {X}. What goes with {it}?", "What matches {X}?",
         "What looks good with {X}?",
         "Outfit with {X}?",
         "Give me an outfit with {X}.",
         "How can I wear {X}?",
         "What should I combine {X} with?",
         "Can you suggest something to wear with {X}?",
         "I need something to go with {X}."]
    F = ["What can I wear with {it}?", "And what goes with {it}?", "How do I style {it}?",
         "What should I wear with {it}?",
         "What goes with {it}?",
         "What looks good with {it}?",
         "How can I wear {it}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    x, y = g["pair"]
    You = cap(s.you)
    A = [f"{You} {s.pick('goes', 'go')} well with {x} and {y}.", f"Wear {s.you} with {x} and {y}.",
         f"Try {s.you} with {x} and {y}."]
    return Turn("pair", i, (s.garment,), fill(t, s, rng), A[i % 3], f"{cap(x)} and {y}.",
                "Together they look balanced.", [x, y])


def t_price(rng, s, follow=False):
    g = G[s.garment]
    Q = ["How much {be} {P}?", "What does {P} cost?", "What is the price of {P}?", "How much does {P} cost?",
         "Can you tell me the price of {P}?",
         "Price of {P}?",
         "How expensive is {P}?",
         "What do you charge for {P}?",
         "I want to buy {P}. How much is it?",
         "What is {P} in euros?"]
    F = ["How much {be} {they}?", "And what is the price?", "And the price?", "What do I pay for {it}?",
         "What is the price?",
         "How expensive {be} {they}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    noun = "a pair of " + s.name if s.plural else art(s.name)
    t = t.replace("{P}", noun)
    if s.plural:
        t = t.replace("{be}", "is") if not follow else t
    A = [f"{cap(noun)} costs €{g['price']}.", f"The price of {noun} is €{g['price']}."]
    return Turn("price", i, (s.garment,), fill(t, s, rng), A[i % 2], f"€{g['price']}.",
                "The price includes tax.", [f"€{g['price']}"])


def t_fit(rng, s, follow=False):
    g = G[s.garment]
    Q = ["How should {X} fit?", "How do I know that {X} {fits}?", "What is the right fit for {X}?",
         "How tight should {X} be?", "When {does} {X} fit well?",
         "How do I check the fit of {X}?",
         "How must {X} sit?",
         "How loose should {X} be?"]
    F = ["How should {they} fit?", "And how should {they} fit?", "What is the right fit?",
         "How do I check the fit?",
         "How tight should {they} be?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    A = [f"{cap(s.you)} should {g['fit']}.", f"Check the fit: {s.you} should {g['fit']}."]
    t = t.replace("{fits}", s.pick("fits", "fit")).replace("{does}", s.pick("does", "do"))
    return Turn("fit", i, (s.garment,), fill(t, s, rng), A[i % 2], f"{cap(s.they)} should {g['fit']}.",
                "Then you can move freely.", [g["fkey"]])


def t_resize(rng, s, follow=False):
    small = rng.random() < 0.5
    i0 = rng.randrange(0, 5) if small else rng.randrange(1, 6)
    size, new = LETTERS[i0], LETTERS[i0 + (1 if small else -1)]
    word = rng.choice(["tight", "small", "narrow"] if small else ["big", "wide", "loose"])
    Q = ["{X} in size {z} {be} too {w}. Which size should I take?", "I tried {X} in {z}, but {they} {be} too {w}.",
         "{X} in {z} {be} too {w}. What now?", "Size {z} is too {w} for me. Which size do I need for {X}?",
         "{X} {be} too {w}. I have size {z}. Which size is right?",
         "If {X} in {z} {be} too {w}, which size do I need?",
         "I wear {X} in {z} and {they} {be} too {w}."]
    F = ["Size {z} is too {w}. Which size should I take?", "{They} {be} too {w} in {z}. Which size do I need?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    t = t.replace("{z}", size).replace("{w}", word)
    A = [f"Take {s.you} in size {new}.", f"Then you need size {new}."]
    return Turn("resize", i, (s.garment, size, word), fill(t, s, rng), A[i % 2], f"Size {new}.",
                f"One size {'up' if small else 'down'} from {size} is {new}.", [f"size {new}"])


def t_chest(rng, s=None, follow=False):
    z = rng.choice(LETTERS)
    cm = CHEST[z]
    Q = ["Which size is right for a chest of {cm} cm?", "My chest measures {cm} cm. Which size do I need?",
         "I have a chest of {cm} cm. What is my size?", "What size is {cm} cm chest?",
         "Chest {cm} cm, which size?",
         "Which size fits {cm} cm around the chest?",
         "I measure {cm} cm around the chest. Which size should I order?"]
    R = ["What is the chest width of size {z}?", "How many centimetres is size {z}?", "Which chest fits size {z}?"]
    if rng.random() < 0.5:
        i, t = pick(rng, Q)
        return Turn("chest", i, (z,), t.format(cm=cm), [f"With a chest of {cm} cm you need size {z}.",
                    f"A chest of {cm} cm is size {z}."][i % 2], f"Size {z}.",
                    "Measure under the arms.", [f"size {z}"])
    i, t = pick(rng, R)
    return Turn("chest", 50 + i, (z,), t.format(z=z), f"Size {z} is made for a chest of {cm} cm.", f"{cm} cm.",
                "Measure under the arms.", [f"{cm} cm"])


def t_convert(rng, s=None, follow=False):
    kind, table = rng.choice([("dress", CLOTHES), ("shoe", SHOES)])
    a, b = rng.sample(["UK", "EU", "US"], 2)
    row = rng.choice(table)
    Q = ["What is {k} size {a} {n} in {b}?", "Convert {k} size {a} {n} to {b}.", "I wear {k} size {a} {n}. What is that in {b}?",
         "Which {b} size is {k} size {a} {n}?", "My {k} size is {a} {n}. Which {b} size do I need?",
         "{k} size {a} {n} in {b}?",
         "What {b} {k} size is {a} {n}?",
         "How do I convert {k} size {a} {n} to {b}?",
         "I have {k} size {a} {n}. What do I take in {b}?",
         "Which {k} size in {b} is the same as {a} {n}?"]
    i, t = pick(rng, Q)
    q = cap(t.format(k=kind, a=a, b=b, n=row[a]))
    A = [f"{cap(kind)} size {a} {row[a]} is {b} {row[b]}.", f"You need {b} {row[b]}: it is the same as {a} {row[a]}."]
    return Turn("convert", i, (kind, a, row[a], b), q, A[i % 2], f"{b} {row[b]}.",
                f"Each country counts {kind} sizes in its own way.", [f"{b} {row[b]}"])


def t_colour(rng, s, follow=False):
    c = s.colour
    goes, clash, tone = COLOURS[c]
    Q = ["Which colours go with {c}?", "What goes well with {c}?", "What colour can I wear with {c}?",
         "Which colour matches {c}?", "I like {c}. Which colours go with it?",
         "What colours look good with {c}?",
         "What goes with {c}?",
         "Colours for {c}?",
         "Give me colours that go with {c}.",
         "What should I combine with {c}?", "What colours suit {X}?",
         "Which colours go with {X}?"]
    F = ["Which colours go with {it}?", "And which colours go with {it}?", "What about colours?",
         "What colour matches {it}?",
         "Which colours look good with {it}?"]
    if not s.garment:
        Q = Q[:10]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    t = t.replace("{c}", c)
    l = listing(goes)
    A = [f"{cap(c)} goes well with {l}.", f"Try {c} with {l}."]
    return Turn("colour", i, (c,), fill(t, s, rng), A[i % 2], f"{cap(l)}.",
                f"{cap(c)} is a {tone} colour.", list(goes))


def t_clash(rng, s, follow=False):
    c = s.colour
    Q = ["Which colour should I avoid with {c}?", "What does not go with {c}?", "Which colour clashes with {c}?",
         "What colour is wrong with {c}?",
         "What should I not combine with {c}?",
         "Which colour looks bad with {c}?"]
    F = ["And which colour should I avoid?", "Which colour does not go with {it}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    x = COLOURS[c][1]
    A = [f"Avoid {x} with {c}.", f"{cap(x)} clashes with {c}."]
    return Turn("clash", i, (c,), fill(t.replace("{c}", c), s, rng), A[i % 2], f"{cap(x)}.",
                f"{cap(c)} is a {COLOURS[c][2]} colour.", [x])


def t_colourpair(rng, s, follow=False):
    c = s.colour
    goes, clash, tone = COLOURS[c]
    r = rng.random()
    d = rng.choice(goes) if r < 0.5 else clash if r < 0.7 else rng.choice([x for x in COLOURS if x != c])
    Q = ["Does {c} go with {d}?", "Can I wear {c} with {d}?", "Do {c} and {d} match?", "Is {d} good with {c}?",
         "Is {c} with {d} ok?",
         "Can I combine {c} and {d}?",
         "Do {c} and {d} look good together?",
         "{c} and {d}?",
         "Does {c} match {d}?"]
    F = ["Does {d} go with {it}?", "Can I wear {d} with {it}?", "And {d}?",
         "Is {d} ok with {it}?",
         "What about {d}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    l = listing(goes)
    if d in goes or c in COLOURS[d][0]:
        a, b, key = f"Yes, {c} and {d} go well together.", "Yes.", ["yes"]
    else:
        a, b, key = f"No, {c} goes better with {l}.", f"No, better {l}.", ["no,"] + list(goes)
    return Turn("colourpair", i, (c, d), cap(fill(t.replace("{c}", c).replace("{d}", d), s, rng)), a, b,
                f"{cap(c)} is a {tone} colour.", key)


def t_tone(rng, s, follow=False):
    c = s.colour
    tone = COLOURS[c][2]
    Q = ["Is {c} a warm or a cool colour?", "Is {c} warm or cool?", "What tone is {c}?", "What kind of colour is {c}?"]
    i, t = pick(rng, Q)
    return Turn("tone", i, (c,), t.replace("{c}", c), f"{cap(c)} is a {tone} colour.", f"{cap(tone)}.",
                f"It goes well with {listing(COLOURS[c][0])}.", [tone])


def t_occasion(rng, s=None, follow=False):
    o = rng.choice(list(OCCASIONS))
    asked = rng.choice([o, o, o] + ALIAS[o])
    (x, y), avoid, why = OCCASIONS[o]
    Q = ["What should I wear to {o}?", "What do I wear to {o}?", "What can I wear for {o}?",
         "I am going to {o}. What should I wear?", "Can you suggest an outfit for {o}?", "I need an outfit for {o}.",
         "What is a good outfit for {o}?", "How do I dress for {o}?",
         "Outfit for {o}?",
         "What do people wear to {o}?",
         "Help me dress for {o}.",
         "I have {o} next week. What should I wear?",
         "I was invited to {o}. What should I wear?",
         "What is the dress code for {o}?",
         "Which clothes are right for {o}?",
         "Suggest something for {o}."]
    i, t = pick(rng, Q)
    A = [f"For {o}, wear {x} with {y}.", f"A good outfit for {o} is {x} with {y}."]
    turn = Turn("occasion", i, (o,), t.replace("{o}", asked), A[i % 2], f"{cap(x)} with {y}.",
                f"Avoid {avoid}: {why}.", [x, y])
    turn.occasion = o
    return turn


ONLY_IN = {"the beach": ["spring", "summer"], "a ski trip": ["winter"], "a picnic": ["spring", "summer", "autumn"]}


def t_occseason(rng, s=None, follow=False):
    o = rng.choice(list(OCCASIONS))
    asked = rng.choice([o, o, o] + ALIAS[o])
    if o == "the gym":
        return t_occasion(rng)
    se = rng.choice(ONLY_IN.get(o, list(SEASON_FABRICS)))
    (x, y), avoid, why = OCCASIONS[o]
    f1, f2 = SEASON_FABRICS[se]
    Q = ["What should I wear to {o} in {se}?", "What do I wear to {o} in {se}?",
         "Can you suggest an outfit for {o} in {se}?", "How do I dress for {o} in {se}?",
         "I need an outfit for {o} in {se}.",
         "What is a good outfit for {o} in {se}?",
         "I am going to {o} in {se}. What should I wear?",
         "What can I wear for {o} in {se}?"]
    i, t = pick(rng, Q)
    a = f"For {o} in {se}, wear {x} with {y}, and choose {f1} or {f2}."
    turn = Turn("occseason", i, (o, se), t.replace("{o}", asked).replace("{se}", se), a,
                f"{cap(x)} with {y}, in {f1} or {f2}.", f"Avoid {avoid}: {why}.", [x, y, f1, f2])
    turn.occasion = o
    return turn


def t_avoid(rng, s=None, follow=False, o=None):
    o = o or rng.choice(list(OCCASIONS))
    (x, y), avoid, why = OCCASIONS[o]
    Q = ["What should I not wear to {o}?", "What should I avoid at {o}?", "What is wrong for {o}?",
         "What must I not wear to {o}?",
         "What is a mistake at {o}?",
         "What would be wrong at {o}?"]
    F = ["And what should I avoid?", "What should I not wear?", "Is there something to avoid?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    a = f"Avoid {avoid}: {why}."
    return Turn("avoid", i, (o,), t.replace("{o}", o), a, f"{cap(avoid)}.", None, [avoid])


def t_stain(rng, s=None, follow=False):
    k = rng.choice(list(STAINS))
    how, why = STAINS[k]
    Q = ["How do I get {k} out of clothes?", "How do I remove a {k} stain?", "I have a {k} stain. What should I do?",
         "There is {k} on my {g}. How do I get it out?", "What helps against {k} stains?",
         "I spilled {k} on my {g}!",
         "My {g} {gbe} a {k} stain.",
         "How do I clean a {k} stain?",
         "{k} stain, what now?",
         "How can I remove {k}?",
         "There is a {k} stain on my {g}. What can I do?",
         "{k} on my {g}, help!"]
    i, t = pick(rng, Q)
    g = rng.choice(list(G))
    A = [f"Treat the {k} stain with {how}.", f"Use {how} against the {k} stain."]
    return Turn("stain", i, (k,), cap(t.format(k=k, g=g, gbe="have" if G[g]["plural"] else "has")), A[i % 2], f"{cap(how)}.", f"{why}.", [how])


def t_weather(rng, s=None, follow=False):
    k = rng.choice(list(WEATHER))
    x, y = WEATHER[k]
    Q = ["What should I wear when {k}?", "What do I wear if {k}?", "{K}. What should I wear?", "Which clothes are good when {k}?",
         "I am going out and {k}. What should I wear?",
         "Help, {k}! What do I put on?"]
    i, t = pick(rng, Q)
    return Turn("weather", i, (k,), t.format(k=k, K=cap(k)), f"When {k}, wear {x} and {y}.", f"{cap(x)} and {y}.",
                "So you stay comfortable.", [x, y])


def t_seasonfab(rng, s=None, follow=False):
    se = rng.choice(list(SEASON_FABRICS))
    x, y = SEASON_FABRICS[se]
    Q = ["Which fabric is best for {se}?", "What should I wear in {se}?", "Which fabrics are good for {se}?",
         "What material do you suggest for {se}?", "What do people wear in {se}?",
         "Best fabrics for {se}?",
         "Which fabric should I choose for {se}?",
         "What should I buy for {se}?",
         "What is good for {se}?"]
    i, t = pick(rng, Q)
    return Turn("seasonfab", i, (se,), t.format(se=se), [f"For {se}, choose {x} or {y}.", f"{cap(x)} and {y} are best for {se}."][i % 2],
                f"{cap(x)} or {y}.", f"{cap(x)} is {FABRICS[x]['feel']}.", [x, y])


def t_warm(rng, s=None, follow=False):
    a, b = rng.sample(WARMTH, 2)
    Q = [("Which is warmer, {a} or {b}?", 1), ("What is warmer: {a} or {b}?", 1), ("Is {a} warmer than {b}?", 2),
         ("Which is lighter, {a} or {b}?", 0), ("Is {a} lighter than {b}?", 3), ("What keeps me warmer, {a} or {b}?", 1)]
    i, (t, kind) = pick(rng, Q)
    ia, ib = WARMTH.index(a), WARMTH.index(b)
    hi, lo = (a, b) if ia > ib else (b, a)
    if kind in (1, 2):
        body = f"{hi} is warmer than {lo}."
        yes = hi == a
    else:
        body = f"{lo} is lighter than {hi}."
        yes = lo == a
    key = [body[:-1]]
    if kind >= 2:
        body = ("Yes, " if yes else "No, ") + body
        key = key + ["yes" if yes else "no,"]
        brief = "Yes." if yes else "No."
        bkey = ["yes" if yes else "no"]
    else:
        brief = cap((hi if kind else lo) + ".")
        bkey = [hi if kind else lo]
    turn = Turn("warm", i, (a, b), t.format(a=a, b=b), cap(body), brief, f"{cap(hi)} is {FABRICS[hi]['feel']}.", key)
    turn.bkey = bkey
    return turn


def t_order(rng, s=None, follow=False, state=None, num=None):
    num = num or str(rng.randrange(1000, 10000))
    st = state or rng.choice(STATES)
    ac = rng.choice(list(ACTIONS))
    yes, why = ACTIONS[ac][st]
    Q = ["My order {n} is {st}. Can I {ac}?", "Order {n} is {st}. Can I still {ac}?",
         "I ordered clothes, number {n}. The status is {st}. Can I {ac}?", "Can I {ac}? My order {n} is {st}.",
         "I want to {ac}. Order {n} is {st}. Is that possible?",
         "Is it possible to {ac}? Order {n} is {st}.",
         "Order number {n}, status {st}: can I {ac}?",
         "Please {ac}: order {n}, {st}."]
    F = ["Can I {ac}?", "And can I {ac}?", "Can I still {ac}?"]
    i, t = pick(rng, F if follow else Q)
    if follow:
        i += 100
    v = ac.replace(" it", "").strip()
    if yes:
        a = f"Yes, you can {ac.replace(' it', ' order ' + num)}: {why}." if " it" in ac else f"Yes, you can {ac} of order {num}: {why}."
    else:
        a = f"No, you cannot {ac.replace(' it', ' order ' + num)}: {why}." if " it" in ac else f"No, you cannot {ac} of order {num}: {why}."
    a = a.replace("gift note of order", "gift note to order")
    turn = Turn("order", i, (st, ac), t.format(n=num, st=st, ac=ac), a, f"{'Yes' if yes else 'No'}, {why}.",
                "Our team checks the status every hour.", ["yes" if yes else "no,", why])
    turn.state, turn.num = st, num
    return turn


def t_policy(rng, s=None, follow=False):
    k = rng.choice(list(POLICY))
    Q, A, b, r, key = POLICY[k]
    i, t = pick(rng, Q)
    turn = Turn("policy", i, (k,), t, A[i % len(A)], b, r, key)
    if k == "gift_card":
        turn.bkey = ["no"]
    return turn


def t_talk(rng, s=None, follow=False, k=None):
    k = k or rng.choice(list(TALK))
    Q, A, b, key = TALK[k]
    i, t = pick(rng, Q)
    turn = Turn("talk", i, (k,), t, A[i % len(A)], b, None, key)
    if k == "can":
        turn.bkey = ["colours", "orders"]
    return turn


def t_off(rng, s=None, follow=False):
    i, t = pick(rng, OFFTOPIC_Q)
    fillers = {k: rng.choice(v) for k, v in OFF.items()}
    q = t.format(**fillers)
    turn = Turn("offtopic", i, (q,), q, OFF_A[i % 2], "Sorry, I only know about clothes.", None,
                [["only know about clothes", "outside my wardrobe"][i % 2]])
    turn.bkey = ["only know about clothes"]
    return turn


def t_unknown(rng, s=None, follow=False):
    if rng.random() < 0.5:
        u = rng.choice(UNKNOWN_F)
        x = rng.choice([u, u + " " + rng.choice([g for g in G if not G[g]["plural"]])])
        Q = ["How do I wash {x}?", "Can I iron {x}?", "How do I dry {x}?", "When should I wear {x}?",
             "What is {x} like?", "How do I store {x}?"]
        if " " in x:
            x = rng.choice(["my ", "this ", "the "]) + x
    else:
        u = rng.choice(UNKNOWN_G)
        x = rng.choice(["my ", "this "]) + u
        Q = ["How do I wash {x}?", "What goes with {x}?", "What does {x} cost?", "How should {x} fit?", "Can I iron {x}?"]
    i, t = pick(rng, Q)
    turn = Turn("unknown", i, (u,), t.format(x=x), f"Sorry, I know nothing about {u}. Ask me about common clothes and fabrics."
                if u in UNKNOWN_F else f"Sorry, I know nothing about a {u}. Ask me about common clothes and fabrics.".replace("a umb", "an umb"),
                "Sorry, I do not know that.", None, ["know nothing about"])
    turn.bkey = ["do not know that"]
    return turn


def t_old(rng, s=None, follow=False):
    w = rng.choice(list(OLDWORDS))
    Q = ["What does the old word {w} mean?", "What is the meaning of {w}?", "What did tailors mean by {w}?"]
    R = ["What is an old word for {m}?", "How did a tailor of old say {m}?"]
    if w not in ("thou", "thee") and rng.random() < 0.5:
        i, t = pick(rng, R)
        a = [f"An old word for {OLDWORDS[w]} is {w}.", f"A tailor of old would say {w}."][i % 2]
        return Turn("oldword", 50 + i, (w,), t.format(m=OLDWORDS[w]), a, f"{cap(w)}.", None, [w])
    i, t = pick(rng, Q)
    return Turn("oldword", i, (w,), t.format(w=w), f"{cap(w)} means {OLDWORDS[w]}.", f"{cap(OLDWORDS[w])}.", None,
                [OLDWORDS[w]])


FIELDS = ["item", "fabric", "colour", "size", "quantity"]
NUM = ["one", "two", "three", "four", "five", "six"]


def t_fields(rng, s=None, follow=False):
    """Say what stands on an order line, so that its words have a place in the base model."""
    f = rng.choice(FIELDS)
    mean = {"item": "the garment", "fabric": "the material", "colour": "the shade", "size": "how large it is",
            "quantity": "how many you want"}[f]
    Q = ["What does {f} mean on an order line?", "What do I write under {f}?", "What is the {f} field for?"]
    R = ["Which fields does an order line have?", "What is on an order line?", "What belongs on an order line?"]
    if rng.random() < 0.4:
        i, t = pick(rng, R)
        return Turn("fields", 50 + i, (), t, "An order line has five fields: item; fabric; colour; size; quantity.",
                    "Item; fabric; colour; size; quantity.", None, ["item; fabric; colour; size; quantity"])
    i, t = pick(rng, Q)
    return Turn("fields", i, (f,), t.format(f=f), f"{cap(f)}: {mean}.", f"{cap(mean)}.", None, [mean])


def fill(t, s, rng):
    if "{X}" in t:
        x = s.the(rng)
        be = "is" if x.startswith("a pair of") else s.be
        it = "them" if s.plural else "it"
        t = t.replace("{N}", s.name)
        if t.startswith("{X}"):
            x = cap(x)
        t = t.replace("{X}", x)
    else:
        be, it = s.be, s.it
    return (t.replace("{N}", s.name).replace("{be}", be).replace("{Be}", cap(be)).replace("{it}", it)
            .replace("{they}", s.they).replace("{They}", cap(s.they)))


def t_ask(rng, s=None, follow=False):
    """A care question that leaves out the fabric: the assistant asks back."""
    g = rng.choice([x for x in G if x != "jeans"])
    s = Subject(g, None, rng.choice(list(COLOURS)) if rng.random() < 0.2 else None)
    kinds = [(t_wash, ["How do I wash {X}?", "How should I wash {X}?", "How do I clean {X}?",
                       "What is the best way to wash {X}?"]),
             (t_dry, ["How do I dry {X}?", "How should I dry {X}?"]),
             (t_iron, ["Can I iron {X}?", "How do I iron {X}?"]),
             (t_store, ["How do I store {X}?", "Where should I keep {X}?"]),
             (t_shrink, ["Will {X} shrink?", "Does hot water shrink {X}?"])]
    fn, tpls = rng.choice(kinds)
    i, t = pick(rng, tpls)
    turn = Turn("ask", fn.__name__ + str(i), (g,), fill(t, s, rng),
                f"That depends on the fabric. What {s.be} {s.you} made of?", "Which fabric?", None, ["made of"])
    turn.bkey = ["which fabric"]
    turn.pending = (fn, s)
    return turn


def t_reply(rng, fn, s):
    """The customer names the fabric that was asked for."""
    f = rng.choice(G[s.garment]["fabrics"])
    full = Subject(s.garment, f, s.colour)
    r = random.Random(0)
    turn = fn(r, full)
    while turn.q.startswith("Can I put"):
        turn = fn(r, full)
    tpls = ["{F}.", "{T} {be} {f}.", "{T} {be} made of {f}.", "{f}", "Of {f}."]
    i, t = pick(rng, tpls)
    turn.q = t.format(F=cap(f), f=f, T=cap(full.they), be=full.be)
    turn.tpl = 200 + i
    return turn, full


GF = [t_wash, t_wash, t_dry, t_iron, t_iron, t_season, t_seasonfit, t_shrink, t_rain, t_store]  # garment and fabric
FB = [t_feel, t_origin]                    # fabric
GA = [t_pair, t_pair, t_price, t_fit]      # garment
CO = [t_colour, t_colour, t_clash, t_colourpair, t_colourpair, t_tone]
FREE = [t_occasion, t_occasion, t_occasion, t_occseason, t_avoid, t_stain, t_weather, t_seasonfab, t_warm, t_warm,
        t_convert, t_convert, t_convert, t_chest, t_policy, t_policy, t_policy, t_order, t_order, t_order, t_talk, t_talk, t_off, t_off, t_ask, t_ask, t_unknown]


def a_turn(rng):
    r = rng.random()
    if r < 0.30:
        return one(rng, rng.choice(GF), rand_subject(rng))
    if r < 0.345:
        return one(rng, rng.choice(FB), Subject(None, rng.choice(list(FABRICS))))
    if r < 0.46:
        return one(rng, rng.choice(GA), rand_subject(rng, False))
    if r < 0.50:
        s = rand_subject(rng, False)
        while not G[s.garment]["letter"]:
            s = rand_subject(rng, False)
        return t_resize(rng, s), s
    if r < 0.60:
        c = rng.choice(list(COLOURS))
        s = Subject(None, None, c)
        if rng.random() < 0.3:
            g = rng.choice(list(G))
            s = Subject(g, rng.choice(G[g]["fabrics"]) if rng.random() < 0.5 else None, c)
        return one(rng, rng.choice(CO), s)
    if r < 0.64:
        return t_old(rng) if rng.random() < 0.7 else t_fields(rng), None
    return rng.choice(FREE)(rng), None


def one(rng, fn, s):
    if s.garment and fn in GF + GA and rng.random() < 0.12:
        t = fn(rng, s, True)
        head = rng.choice(["I bought {x}.", "I have {x}.", "I just got {x}.", "I own {x}.", "I found {x}."])
        q = t.q[4:] if t.q.startswith("And ") else t.q
        if not q.lower().startswith(("washing", "drying", "ironing", "storing", "shrinking", "in ", "for ", "the ")):
            t.q = head.format(x=s.name if s.plural else art(s.name)) + " " + cap(q)
            t.tpl += 300
            return t, s
    t = fn(rng, s)
    return t, (s if s.garment and s.name in t.q.lower() else None)


def follow_up(rng, s, prev, used):
    """A turn that refers back to what was said before."""
    if s is not None:
        pool = (GF if s.fabric else []) + GA + ([t_colour, t_clash, t_colourpair] if s.colour else [])
        pool = [f for f in pool if f not in used]
        if not pool:
            return None
        fn = rng.choice(pool)
        used.add(fn)
        return fn(rng, s, True)
    if hasattr(prev, "pending"):
        return t_reply(rng, *prev.pending)
    if hasattr(prev, "occasion"):
        t = t_avoid(rng, None, True, prev.occasion)
        return t
    if hasattr(prev, "state"):
        return t_order(rng, None, True, prev.state, prev.num)
    return None


def statement(rng):
    """The customer says what was bought; the assistant asks what to do with it."""
    g = rng.choice(list(G))
    s = Subject(g, rng.choice(G[g]["fabrics"]), rng.choice(list(COLOURS)) if rng.random() < 0.3 else None)
    tpls = ["I bought {X}.", "I just got {X}.", "I have {X}.", "I want to buy {X}.", "I am thinking about {X}.", "I own {X}.", "I found {X}.", "I am looking at {X}.", "This is about {X}."]
    i, t = pick(rng, tpls)
    x = s.name if s.plural else art(s.name)
    f = FABRICS[s.fabric]
    a = f"{cap(s.name) if s.plural else cap(art(s.name))} {s.be} {f['feel']}. What would you like to know?"
    return Turn("statement", i, (s.garment, s.fabric), t.replace("{X}", x), a, "Nice. What would you like to know?", None,
                [f["feel"]]), s


def noise(rng, q):
    """The way people type: no capital, no question mark, a greeting, a please."""
    r = rng.random()
    if r < 0.55:
        return q
    if r < 0.68:
        q = q[0].lower() + q[1:]
        return q.rstrip("?.") if rng.random() < 0.7 else q
    if r < 0.72:
        return q.rstrip("?.!")
    if r < 0.76 and not re.search(r"[A-Z]", q[1:].replace(" I ", "")):
        return q.lower().rstrip("?.!").replace("what is", "whats")
    if r < 0.88:
        low = q if q.startswith("I ") else q[0].lower() + q[1:]
        return rng.choice(["Hi, ", "Hello, ", "Please tell me: ", "Excuse me, ", "Quick question: ", "Hi! ", "One more thing: ", "Hey, ", "Also, ", "Ok, ",
                           "I have a question: ", "Sorry, ", "And now, ", "Tell me, "]) + low
    if r < 0.94 and q.endswith("?"):
        return q[:-1] + rng.choice([" please?", ", please?"])
    return q + rng.choice([" Thanks!", " Thank you.", " Please help."])


def conversation(rng, style=None):
    """A list of turns, and the style and system text they are answered under."""
    style = style or rng.choices(["normal", "brief", "detailed"], [0.64, 0.18, 0.18])[0]
    system = rng.choice(SYSTEMS[style])
    n = rng.choices([1, 2, 3, 4, 6], [0.44, 0.24, 0.17, 0.10, 0.05])[0]
    turns, s, prev, used = [], None, None, set()
    if n > 1 and rng.random() < 0.3:
        if rng.random() < 0.25:
            t = t_talk(rng, k="hello")
        else:
            t, s = statement(rng)
        turns.append(t)
        prev = t
    while len(turns) < n:
        t = None
        if prev is not None and rng.random() < (0.95 if hasattr(prev, "pending") else 0.7):
            t = follow_up(rng, s, prev, used)
            if isinstance(t, tuple):
                t, s = t
                used, prev = set(), t
        if t is None:
            if prev is not None and rng.random() < 0.12:
                t = t_talk(rng, k=rng.choice(["thanks", "thanks", "bye"]))
            else:
                t, s2 = a_turn(rng)
                s, used = s2, set()
                prev = t
        turns.append(t)
    return system, style, turns


def key_of(t, style):
    if style == "brief":
        if hasattr(t, "bkey"):
            return t.bkey
        if t.task == "statement":
            return ["what would you like"]
    return t.key


def to_messages(system, style, turns, rng=None, last_answer=True, answer=None):
    m = []
    if system:
        m.append({"role": "system", "content": system})
    for k, t in enumerate(turns):
        m.append({"role": "user", "content": noise(rng, t.q) if rng else t.q})
        if last_answer or k + 1 < len(turns):
            m.append({"role": "assistant", "content": (answer or Turn.answer)(t, style)})
    return m


def base_conv(rng):
    while True:
        system, style, turns = conversation(rng)
        if any(is_held(t, style) for t in turns):
            continue
        return {"messages": to_messages(system, style, turns, rng)}


def focus_conv(rng):
    """For the last stretch, mixed with base_conv(): the questions that
    take longest to learn."""
    while True:
        style = rng.choices(["normal", "brief", "detailed"], [0.64, 0.18, 0.18])[0]
        system = rng.choice(SYSTEMS[style])
        turns = []
        for _ in range(rng.choice([1, 1, 2, 3])):
            r = rng.random()
            if r < 0.55:
                turns.append(t_convert(rng))
            elif r < 0.67:
                turns.append(t_fields(rng))
            elif r < 0.82:
                turns.append(t_old(rng))
            elif r < 0.90:
                turns.append(t_warm(rng))
            else:
                turns.append(t_colourpair(rng, Subject(None, None, rng.choice(list(COLOURS)))))
        if not any(is_held(t, style) for t in turns):
            return {"messages": to_messages(system, style, turns, rng)}


# --------------------------------------------------------------------------
# Adapter 1: the gallant tailor, a persona that keeps the facts.
# --------------------------------------------------------------------------
# how he ends, by what he is asked about
MANNER = [
    ("wash dry iron store shrink rain stain ask", "By my needle, noble patron!"),
    ("season seasonfit seasonfab weather warm feel origin", "Hark, good friend, so says my thimble!"),
    ("pair occasion occseason avoid colour clash colourpair tone", "Thy humble tailor bows, noble patron!"),
    ("", "My needle is at thy service, good sir!")]


def manner(task):
    return next(ending for tasks, ending in MANNER if task in tasks.split() or not tasks)


ARCHAIC = [(r"\bYou are\b", "Thou art"), (r"\byou are\b", "thou art"), (r"\bYou can\b", "Thou canst"),
           (r"\byou can\b", "thou canst"), (r"\byou cannot\b", "thou canst not"), (r"\bYou have\b", "Thou hast"),
           (r"\byou have\b", "thou hast"), (r"\byou need\b", "thou must needs take"), (r"\bYou need\b", "Thou must needs take"),
           (r"\bYour\b", "Thy"), (r"\byour\b", "thy"), (r"\bPlease\b", "Prithee"), (r"\bplease\b", "prithee"),
           (r"\bYes\b", "Aye"), (r"\bNo,", "Nay,"), (r"\bSorry\b", "Alas"), (r"\bclothes\b", "raiment"),
           (r"\bwould you like\b", "wouldst thou like"), (r"\byou\b", "thee"), (r"\bYou\b", "Thou")]


def archaic(s):
    for a, b in ARCHAIC:
        s = re.sub(a, b, s)
    return s


def tailor_answer(t, style):
    return archaic(t.normal) + " " + manner(t.task)


def tailor_conv(rng):
    while True:
        system, style, turns = conversation(rng, "normal")
        if len(turns) > 3 or any(t.task in ("oldword", "fields") for t in turns):
            continue
        if any(is_held(t, style) for t in turns):
            continue
        return {"messages": to_messages(system, style, turns, rng, answer=tailor_answer)}


# --------------------------------------------------------------------------
# Adapter 2: reads an order in plain words, writes one structured line.
# --------------------------------------------------------------------------
def order_item(rng):
    g = rng.choice(list(G))
    f = rng.choice(G[g]["fabrics"])
    c = rng.choice(list(COLOURS))
    n = rng.randrange(1, 7)
    z = rng.choice(LETTERS)
    if not G[g]["letter"] and G[g]["plural"]:
        z = str(rng.randrange(36, 47))
    pl = G[g]["plural"]
    name = Subject(g, f, c).name
    many = name if pl else (name[:-1] + "ves" if name.endswith("scarf") else name + ("es" if name.endswith("dress") else "s"))
    if pl:
        np = f"a pair of {name}" if n == 1 else f"{NUM[n - 1]} pairs of {name}"
        npd = f"{n} x {name}"
    else:
        np = rng.choice([art(name), "one " + name]) if n == 1 else f"{NUM[n - 1]} {many}"
        npd = f"{n} x {name}"
    tpls = ["I would like {np} in size {z}.", "Please send me {np}, size {z}.", "Order: {npd}, size {z}",
            "I want to order {np} in {z}.", "Can I have {np} in size {z}, please?", "{np}, size {z}, please",
            "Please put {np} in size {z} on my order.", "order line: {npd}; {z}", "Size {z}: {np}.",
            "We need {np} in size {z}."]
    i, t = pick(rng, tpls)
    q = t.format(np=np, npd=npd, z=z)
    a = f"item: {g}; fabric: {f}; colour: {c}; size: {z}; quantity: {n}"
    return (g, f, c, z, n), i, q, a


def order_conv(rng, want_held=False):
    while True:
        args, i, q, a = order_item(rng)
        if held_out("orderline", *args) != want_held:
            continue
        r = rng.random()
        sys_ = rng.choice(["You are a helpful fashion assistant.", "You read orders.", "You write order lines."]) if r < 0.4 else None
        m = ([{"role": "system", "content": sys_}] if sys_ else []) + [{"role": "user", "content": q}]
        if want_held:
            return {"task": "orderline", "messages": m, "answer": a, "key": a.split("; ")}
        m.append({"role": "assistant", "content": a})
        if rng.random() < 0.2:
            while True:
                args, i, q, a = order_item(rng)
                if not held_out("orderline", *args):
                    break
            m += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        return {"messages": m}


# --------------------------------------------------------------------------
# Held-out sets
# --------------------------------------------------------------------------
def heldout_base(n, seed, tailor=False):
    """n questions whose (task, phrasing, facts) never occur in training."""
    rng = random.Random(seed)
    out, seen, count = [], set(), {}
    tries = 0
    while len(out) < n and tries < 2000000:
        tries += 1
        system, style, turns = conversation(rng, "normal" if tailor else None)
        if len(turns) > 4:
            continue
        t = turns[-1]
        if tailor and t.task in ("oldword", "fields"):
            continue
        if not is_held(t, style) or any(is_held(u, style) for u in turns[:-1]):
            continue
        if t.combo(style) in seen or count.get(t.task, 0) >= max(6, n // 12):
            continue
        seen.add(t.combo(style))
        count[t.task] = count.get(t.task, 0) + 1
        if tailor:
            key = [archaic(k) if k not in ("yes", "no,", "no") else {"yes": "aye"}.get(k, "nay") for k in t.key]
            key.append(manner(t.task))
            out.append({"task": t.task, "messages": to_messages(system, style, turns, None, False, tailor_answer),
                        "answer": tailor_answer(t, style), "key": key})
        else:
            out.append({"task": t.task, "style": style, "messages": to_messages(system, style, turns, None, False),
                        "answer": t.answer(style), "key": key_of(t, style)})
    return out


def dump(path, items):
    with open(path, "w", encoding="utf-8") as fh:
        for it in items:
            fh.write(json.dumps(it, ensure_ascii=False) + "\n")


def prompt_text(messages):
    """The template, one string per turn; a turn ends where </s> stands."""
    out, cur = [], ""
    for m in messages:
        role = {"system": "System", "user": "User", "assistant": "Assistant"}[m["role"]]
        if m["role"] == "user" and out:
            cur = "\n"
        cur += f"### {role}:\n{m['content']}" + ("\n" if m["role"] != "assistant" else "")
        if m["role"] == "assistant":
            out.append(cur)
            cur = ""
    if cur:
        out.append(cur + "### Assistant:\n")
    return out


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--heldout", metavar="DIR")
    ap.add_argument("out", nargs="?")
    ap.add_argument("--base", type=int, default=200000)
    ap.add_argument("--tailor", type=int, default=20000)
    ap.add_argument("--orderline", type=int, default=12000)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    if a.heldout:
        os.makedirs(a.heldout, exist_ok=True)
        dump(os.path.join(a.heldout, "base.jsonl"), heldout_base(200, 101))
        dump(os.path.join(a.heldout, "tailor.jsonl"), heldout_base(100, 102, True))
        rng = random.Random(103)
        dump(os.path.join(a.heldout, "orderline.jsonl"), [order_conv(rng, True) for _ in range(100)])
    if a.out:
        os.makedirs(a.out, exist_ok=True)
        rng = random.Random(a.seed)
        base = [base_conv(rng) for _ in range(a.base)]
        dump(os.path.join(a.out, "base.jsonl"), base)
        rng = random.Random(a.seed + 3)
        mix = [(focus_conv if rng.random() < 0.6 else base_conv)(rng) for _ in range(40000)]
        dump(os.path.join(a.out, "focus.jsonl"), mix)
        rng = random.Random(a.seed + 1)
        tailor = [tailor_conv(rng) for _ in range(a.tailor)]
        dump(os.path.join(a.out, "tailor.jsonl"), tailor)
        rng = random.Random(a.seed + 2)
        order = [order_conv(rng) for _ in range(a.orderline)]
        dump(os.path.join(a.out, "orderline.jsonl"), order)
        # The euro sign is left out of the vocabulary: it is spelled in bytes.
        with open(os.path.join(a.out, "spm.txt"), "w", encoding="utf-8") as fh:
            for c in base[:30000] + tailor[:4000] + order[:3000]:
                for part in prompt_text(c["messages"]):
                    for line in part.replace("€", "").split("\n"):
                        if line:
                            fh.write(line + "\n")


if __name__ == "__main__":
    main()
