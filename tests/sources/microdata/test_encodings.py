"""Guesses of encodings from the few labels that a small file has."""

import pytest

from survey_jax.sources.microdata import encodings

LABELS = {
    "cp1252": ["Muy bien", "Más o menos", "Está mal", "No sabe / No contestó"],
    "cp1250": ["Zdecydowanie się zgadzam", "Trudno powiedzieć", "Odmowa odpowiedzi", "żadne"],
    "cp1251": ["Очень хорошо", "Скорее плохо", "Затрудняюсь ответить"],
    "koi8_r": ["Очень хорошо", "Скорее плохо", "Затрудняюсь ответить"],
    "cp1253": ["Πολύ καλά", "Μάλλον καλά", "Δεν ξέρω"],
    "iso8859_7": ["Πολύ καλά", "Μάλλον άσχημα", "Δεν απαντώ"],
    "cp1254": ["Kesinlikle katılıyorum", "Hiçbir görüşüm yok", "Bilmiyorum", "Fikrim yok", "Cevap vermek istemiyorum",
               "Kadın", "Yaş"],
    "cp1255": ["טוב מאוד", "לא כל כך טוב", "לא יודע"],
    "cp1256": ["جيد جدا", "جيد إلى حد ما", "لا أعرف"],
    "cp874": ["ดีมาก", "ค่อนข้างดี", "ไม่ทราบ"],
    "gb18030": ["非常好", "比较差", "不知道"],
    "big5": ["非常同意", "不太同意", "不知道"],
    "cp932": ["とても良い", "やや悪い", "わからない"],
    "cp949": ["매우 좋다", "대체로 나쁘다", "모르겠다"],
}  # fmt: skip


@pytest.mark.parametrize("encoding", LABELS)
def test_a_few_labels_tell_the_encoding(encoding):
    content = "\n".join(LABELS[encoding]).encode(encoding)
    guesses = encodings.guesses(encodings.sample([content]))
    first = next(name for name in guesses if encodings.fits(name, [content]))
    assert content.decode(first).split("\n") == LABELS[encoding]
