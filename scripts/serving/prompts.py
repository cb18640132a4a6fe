"""Texts of known length, from a seed: the same for every target, new in every round, so that no cache knows them."""

from __future__ import annotations

import random

# Everyday words: with a space before them one token each in most vocabularies.
TEXT = """
about above after again air all also another answer any around back because before began being below best better
between big black blue book both bring building call came car carry change children city clear close cold color
come common complete could country course cut dark day deep did door down draw dry during each early earth east
easy eat end enough even every example eye face fact family far farm fast father feel feet few field figure fine
fire first fish five follow food form found four free friend from front full game gave girl give gold good great
green ground group grow half hand hard head hear heat help here high hold home horse hot hour house idea inch
island just keep kind king knew know land language large last late learn leave left letter life light line list
little live long look low made main make man many map mark mean men might mind moon more morning most mother
mountain move much music name near need never new next night north note notice now number object off often old
once one only open order other over own page paper part pass people perhaps person picture piece place plain plan
plant play point pose power problem product pull question quick rain read ready real red remember rest right
river road rock room round rule run same saw say school science sea second seem self sentence serve set several
shape ship short should show side simple since sing sit size sleep slow small snow some song soon sound south
space special stand star start state stay step still stood stop story street strong study such sun sure surface
table tail take talk teach tell test than think those though thought thousand three through time together told
took top toward town travel tree true try turn under unit until use usual very voice vowel wait walk warm watch
water week weight well went west wheel where which white whole wind with wonder wood word work world would write
year yes young
"""
WORDS = tuple(TEXT.split())


class Prompts:
    """Texts for one workload of one round. `tokens_per_word` makes words of tokens."""

    def __init__(self, seed: str, tokens_per_word: float = 1.0) -> None:
        self._random = random.Random(seed)
        self._tokens_per_word = tokens_per_word

    def text(self, num_tokens: int) -> str:
        """About `num_tokens` tokens of words."""
        return " ".join(self._random.choices(WORDS, k=max(1, round(num_tokens / self._tokens_per_word))))
