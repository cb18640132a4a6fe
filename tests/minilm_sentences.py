"""A hundred texts for comparing embeddings: English, other scripts, code, long ones, and ones of almost nothing.

`python tests/minilm_sentences.py FOLDER OUT.npy` computes their reference vectors with sentence-transformers, over the
Hugging Face files of all-MiniLM-L6-v2 in FOLDER: float16, one row a text. `minilm_vectors.npy` beside this file was
made so, with sentence-transformers 6.2.0 and torch 2.13.0 on a CPU, for up to 512 tokens (the model's most).
"""

from __future__ import annotations

import sys
from pathlib import Path

VECTORS = Path(__file__).with_name("minilm_vectors.npy")

ENGLISH = (
    "The cat sits on the mat.",
    "A feline rests upon a rug.",
    "Interest rates were raised by a quarter point on Thursday.",
    "How do I reset the password of my router?",
    "Photosynthesis turns light, water and carbon dioxide into sugar.",
    "She sells sea shells by the sea shore.",
    "Don't count your chickens before they've hatched!",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG",
    "the train to york leaves at 14:35 from platform 2b",
    "What is the capital of Australia?",
    "Canberra is the capital city of Australia.",
    "A recipe for pancakes: flour, eggs, milk, a pinch of salt.",
    'He denied that he\'d ever met the so-called "expert".',
    "Quantum computers use qubits instead of bits.",
    "The patient shows no signs of infection.",
    "Two plus two equals four; three times three equals nine.",
    "Please find attached the minutes of yesterday's meeting.",
    "It was the best of times, it was the worst of times.",
    "An unladen swallow flies at roughly 11 metres per second.",
    "Error 404: the page you were looking for does not exist.",
    "Rust prevents data races at compile time.",
    "A penguin is a bird that cannot fly, but swims well.",
    "My flight was cancelled and nobody told me why.",
    "antidisestablishmentarianism",
    "The mitochondrion is the powerhouse of the cell.",
    "Terms and conditions apply. Batteries not included.",
    "I can't believe it's not butter...",
    "e.g. Dr. Smith vs. Prof. Jones, Ph.D.",
    "Tomorrow will be mostly sunny with a light breeze from the south-west.",
    "In 1969, Apollo 11 landed on the Moon.",
)
OTHER_SCRIPTS = (
    "Die Katze sitzt auf der Matte.",
    "Größenwahn, Übermut und Äußerlichkeiten",
    "Straße und Fußgängerübergang",
    "Le garçon a mangé une crème brûlée à Nîmes.",
    "L'été dernier, nous sommes allés à la mer.",
    "El niño pequeño comió una piña en España.",
    "¿Dónde está la biblioteca? ¡Aquí!",
    "Não há ninguém em casa amanhã de manhã.",
    "Zażółć gęślą jaźń",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Árvíztűrő tükörfúrógép",
    "İstanbul'da hava bugün çok güzel, ılık ve rüzgârlı.",
    "Tiếng Việt có sáu thanh điệu.",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку.",
    "Москва — столица России. Ёжик в тумане.",
    "Київ — столиця України",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "Ἐν ἀρχῇ ἦν ὁ λόγος",
    "השועל החום המהיר קופץ מעל הכלב העצלן",
    "القط يجلس على الحصيرة",
    "اَلْعَرَبِيَّةُ لُغَةٌ جَمِيلَةٌ",
    "बिल्ली चटाई पर बैठी है।",
    "বিড়াল মাদুরের উপর বসে আছে",
    "பூனை பாயில் அமர்ந்திருக்கிறது",
    "แมวนั่งอยู่บนเสื่อ",
    "猫坐在垫子上。",
    "量子计算机使用量子比特，而不是比特。",
    "猫はマットの上に座っています。",
    "ガンダムはパイロットが操縦する。ぷらす",
    "고양이가 매트 위에 앉아 있다.",
    "서울은 대한민국의 수도입니다",
    "Ĉu vi parolas Esperanton? Jes, ĝojege ŝajnas ĵaŭdo.",
    "ｆｕｌｌ　ｗｉｄｔｈ　ｔｅｘｔ",
    "naïve café résumé coöperate",  # composed
    "nai\u0308ve cafe\u0301 re\u0301sume\u0301",  # decomposed
)
SYMBOLS = (
    "def add(a: int, b: int) -> int:\n    return a + b",
    "SELECT name, age FROM users WHERE age >= 18 ORDER BY name;",
    '<div class="main">Hello &amp; welcome</div>',
    "https://example.org/path?query=1&other=two#part",
    "user.name+tag@example.co.uk",
    "x² + y² = z², ∑ᵢ aᵢ ≤ ∞, √2 ≈ 1.41421",
    "3.14159265358979323846",
    "$1,234.56 or €99 or £5 or ¥1000",
    "🦙 llamas 🦙 everywhere 🎉🎉",
    "👩‍👩‍👧‍👦 family",
    "C:\\Users\\me\\file.txt",
    '{"key": [1, 2, {"nested": null}]}',
    "a-b_c/d|e~f^g`h",
    "½ ⅓ ¼ ™ ® © № ℃",
    "ﬁne ﬂour ﬀ Ⅷ",
)
NEARLY_NOTHING = (
    "a",
    ".",
    "?!",
    "   x   ",
    "\n\tword\r\n",
    "0",
    "\u200bzero\u200bwidth\u200b",
    "soft\u00adhyphen",
    "null\x00byte and bell\x07",
    "\ufffd replacement",
    "no\u00a0break\u2003space\u3000ideographic",
    "z" * 99,
    "z" * 101,
    "the " * 3,
    "—",
)
LONG = (
    " ".join(ENGLISH),
    " ".join(OTHER_SCRIPTS),
    " ".join(f"Item {n}: {ENGLISH[n % len(ENGLISH)]}" for n in range(24)),
    "word " * 505,
    " ".join(SYMBOLS),
)
SENTENCES = (*ENGLISH, *OTHER_SCRIPTS, *SYMBOLS, *NEARLY_NOTHING, *LONG)


def main(folder: str, out: str) -> None:
    """Compute and write the reference vectors."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    model.max_seq_length = 512
    vectors = np.asarray(model.encode(list(SENTENCES), normalize_embeddings=True))
    np.save(out, vectors.astype(np.float16))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
