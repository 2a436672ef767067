"""Trains two small SentencePiece models on the sample articles, and records the pieces that the `sentencepiece` library
produces for many texts. Writes `sentencepiece/<name>.model` and `sentencepiece/<name>.jsonl`.

    python make_sentencepiece.py

Needs sentencepiece 0.2.3; takes seconds. The texts are ordinary prose and characters that normalization changes.
"""

import io
import json
import random
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent.parent / "samples/articles.jsonl"
OUT = HERE / "sentencepiece"

OTHER_LANGUAGES = [
    "Der Bürgermeister sagte am Dienstag, die alte Hafenbrücke werde im Frühjahr geschlossen.",
    "La ville fermera son vieux pont l’année prochaine ; les travaux coûteront 41 millions d’euros.",
    "El alcalde dijo que el puente se cerrará en primavera, ¿y después?",
    "Мост закроют на ремонт весной, сообщил мэр города во вторник.",
    "市長は火曜日、古い港の橋を来春から閉鎖すると述べた。工事は18か月かかる見込みだ。",
    "市长周二表示，旧港口大桥将于明年春天关闭。",
    "قال رئيس البلدية يوم الثلاثاء إن الجسر القديم سيغلق في الربيع المقبل.",
    "महापौर ने मंगलवार को कहा कि पुराना पुल अगले वसंत में बंद होगा।",
    "시장은 화요일에 오래된 항구 다리를 내년 봄부터 폐쇄한다고 말했다.",
    "Ο δήμαρχος είπε ότι η γέφυρα θα κλείσει την άνοιξη.",
    "Thị trưởng cho biết cây cầu cũ sẽ đóng cửa vào mùa xuân tới.",
    "ראש העיר אמר ביום שלישי כי הגשר הישן ייסגר באביב.",
    "นายกเทศมนตรีกล่าวเมื่อวันอังคารว่าสะพานเก่าจะปิดในฤดูใบไม้ผลิหน้า",
]

ODD = [
    "", " ", "  ", "a", " a", "a ", "  a  b  ", "a\tb", "a\nb", "\n\n a \r\n b \t", "a\u00a0b", "a\u3000b", "a\u2009b\u200ab",
    "zero\u200bwidth\u200cjoin\u200der", "\ufeffmark", "soft\u00adhyphen", "ﬁne ﬂour ﬃ ﬄ", "ＦＵＬＬ　ｗｉｄｔｈ １２３", "½ ¼ ⅓ ㎏ ℃ № ™ ®",
    "é e\u0301 ñ n\u0303 Å A\u030a", "ḍ̇ ḍ̇", "ｶﾞｷﾞ ガギ", "한글 한글", "Ⅷ ⅷ ① ⑳ ㈱", "“curly” ‘quotes’ «guillemets»",
    "dash – em — minus −", "ellipsis… dots ...", "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽", "x²+y³=z⁴", "a\u0000b", "a\u0001b\u007fc", "\u2028line\u2029para",
    "▁already▁there", "▁", "<unk> is text", "tab\t\ttab", "   lead", "trail   ", "Ω Ω K Å", "ǆ ǅ Ǆ", "ß ẞ ſ", "İ ı I i", "a\u0085b",
    "\u202eright to left\u202c", "q\u0308\u0301\u0323", "ﷺ", "㌀ ㍿", "𝒜𝓑𝔠 𝟙𝟚𝟛", "\U0001f1e6", "a" * 300, "ab " * 100, "1,234,567.89 $41m 18% 3:45pm",
    "https://example.org/a?b=c&d=é#f", "e-mail: a.b@c.de", "C++ && Rust || Go;", "{\"json\": [1, 2]}", "\\back/slash", "日本 語", "漢字かな交じり文", "混合 mixed 文本 text",
]


def texts():
    generator = random.Random(7)
    articles = [json.loads(line)["article"] for line in SAMPLES.read_text().splitlines()]
    yield from articles[:4]
    sentences = [part.strip() for article in articles for part in article.replace("\n", " ").split(". ") if part.strip()]
    yield from generator.sample(sentences, 120)
    yield from OTHER_LANGUAGES
    yield from ODD
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0x1100, 0x11FF), (0x2000, 0x2BFF),
              (0x3000, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFE00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF)]
    for _ in range(300):
        low, high = generator.choice(ranges)
        mixed = [chr(generator.randint(low, high)) if generator.random() < 0.7 else generator.choice("aeiou stn. ,") for _ in range(generator.randint(1, 24))]
        yield "".join(mixed)


def train(name, lines, **settings):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        num_threads=1, minloglevel=2, **settings,
    )
    (OUT / f"{name}.model").write_bytes(model.getvalue())
    library = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    with open(OUT / f"{name}.jsonl", "w") as file:
        count = 0
        for text in texts():
            if "</s>" in text or "<unk>" in text:
                continue
            ids = library.encode(text)
            file.write(json.dumps({"text": text, "ids": ids, "decoded": library.decode(ids)}, separators=(",", ":")) + "\n")
            count += 1
    print(name, library.vocab_size(), count)


def main():
    OUT.mkdir(exist_ok=True)
    lines = [line for article in SAMPLES.read_text().splitlines() for line in json.loads(article)["article"].split("\n") if line.strip()]
    # Like T5: no byte fallback, so many characters are unknown.
    train("t5", lines, vocab_size=280, character_coverage=0.995)
    # Like mT5 and UMT5: many scripts, and byte fallback for characters without a piece.
    train("umt5", lines + OTHER_LANGUAGES * 3, vocab_size=1500, byte_fallback=True, character_coverage=0.99)


main()
