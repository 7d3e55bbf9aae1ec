"""What labels and names say in many languages, and that answers with the same words in them stay answers."""

import pytest

from survey_jax.sources.microdata.words import Says, about, says, says_not_asked

# language -> labels of no answer; labels of what was not asked
NONE = {
    "Arabic": (["لا أعرف", "لا اعرف", "رفض الإجابة", "لا جواب", "لا أعرف/رفض الإجابة"], ["لا ينطبق"]),
    "Bengali": (["জানি না", "উত্তর নেই", "উত্তর দিতে অস্বীকার"], ["প্রযোজ্য নয়"]),
    "Bulgarian": (["Не знам", "Без отговор"], ["Неприложимо"]),
    "Chinese": (["不知道", "不知道/拒绝回答", "拒答", "说不清", "無回答"], ["不适用", "不適用", "未问"]),
    "Croatian": (["Ne zna", "Odbija odgovoriti"], ["Ne odnosi se"]),
    "Czech": (["Neví", "NEVÍ, NEODPOVĚDĚL", "Odmítl odpovědět"], ["Netýká se"]),
    "Danish": (["Ved ikke", "Ønsker ikke at svare"], ["Ikke relevant"]),
    "Dutch": (["Weet niet", "WEET NIET / GEEN ANTWOORD", "Wil niet zeggen"], ["n.v.t.", "Niet van toepassing"]),
    "English": (
        [
            "Don't know",
            "DON´T KNOW",
            "dont know",
            "DK/NA",
            "No answer, refused",
            "I'd rather not say",
            "Missing: other",
        ],
        ["INAP (not 1 in Q3)", "Not applicable - no children", "NAP: no job", "Not asked in survey", "IAP"],
    ),
    "English, with remarks": (
        [
            "Don’t know (spontaneous)",
            "-8. Don't know",
            "(VOL) Refused to answer",
            "Refused [DO NOT READ]",
            "99=Refused",
        ],
        ["-1. Inapplicable", "Not asked; split B"],
    ),
    "Finnish": (["Ei osaa sanoa", "EOS", "Ei halua vastata"], ["Ei koske"]),
    "French": (["Ne sait pas", "NSP", "(Ne sait pas)", "Refus de répondre", "REFUSE DE REPONDRE"], ["Non concerné"]),
    "German": (["weiß nicht", "WEISS NICHT", "keine Angabe", "k.A.", "[-1] keine Angabe"], ["nicht erhoben", "TNZ"]),
    "Greek": (["Δεν γνωρίζω", "ΔΓ/ΔΑ", "ΔΕΝ ΓΝΩΡΙΖΩ/ΔΕΝ ΑΠΑΝΤΩ", "Αρνείται"], ["Δεν εφαρμόζεται"]),
    "Hebrew": (["לא יודע", "מסרב לענות"], ["לא רלוונטי"]),
    "Hindi": (["पता नहीं", "मालूम नहीं", "जवाब नहीं दिया", "कह नहीं सकते"], ["लागू नहीं"]),
    "Hungarian": (["Nem tudja", "NT/NV", "Nem válaszol"], ["Nem kérdezték"]),
    "Indonesian": (["Tidak tahu", "Tidak tahu/tidak jawab", "Menolak menjawab", "TT/TJ"], ["Tidak ditanyakan"]),
    "Italian": (["Non sa", "Non so / Non risponde", "Rifiuta di rispondere"], ["Non applicabile", "Domanda non posta"]),
    "Japanese": (["わからない", "無回答", "わからない・無回答", "答えたくない"], ["非該当"]),
    "Korean": (["모름", "모름/무응답", "잘 모르겠다", "무응답"], ["비해당", "해당없음", "해당 없음"]),
    "Norwegian": (["Vet ikke", "Ubesvart"], ["Ikke aktuelt"]),
    "Persian": (["نمی‌دانم", "نمی دانم", "نمیدانم", "بدون پاسخ"], ["مصداق ندارد"]),
    "Polish": (["Nie wiem", "Trudno powiedzieć", "NIE WIEM/TRUDNO POWIEDZIEĆ", "Odmowa odpowiedzi"], ["Nie dotyczy"]),
    "Portuguese": (["Não sabe", "NÃO SABE/NÃO RESPONDEU", "NS/NR", "Recusou-se a responder"], ["Não se aplica"]),
    "Romanian": (["Nu știu", "NS/NR", "Nu stiu / Nu raspund"], ["Nu e cazul"]),
    "Russian": (["Затрудняюсь ответить", "НЕ ЗНАЮ", "Отказ от ответа", "Нет ответа"], ["Не применимо"]),
    "Spanish": (
        ["No sabe", "No contestó", "NS/NC", "N.S.", "No sabe / No responde", "No sé", "Prefiero no contestar"],
        ["No preguntada", "No aplica", "No procede"],
    ),
    "Swahili": (["Sijui", "Amekataa kujibu"], ["Haihusiki"]),
    "Swedish": (["Vet ej", "Vill inte svara", "Uppgift saknas"], ["Ej tillfrågad"]),
    "Thai": (["ไม่ทราบ", "ไม่ตอบ"], ["ไม่เกี่ยวข้อง"]),
    "Turkish": (["Bilmiyor", "BİLMİYOR / CEVAP YOK", "BILMIYOR", "Cevap vermek istemiyor"], ["Uygun değil"]),
    "Ukrainian": (["Важко сказати", "Не знаю", "Відмова від відповіді"], ["Не стосується"]),
    "Urdu": (["معلوم نہیں", "جواب نہیں دیا"], ["لاگو نہیں ہوتا"]),
    "Vietnamese": (["Không biết", "KHÔNG TRẢ LỜI", "Từ chối trả lời"], ["Không áp dụng"]),
}


@pytest.mark.parametrize("language", NONE)
def test_no_answer_and_not_asked_in_many_languages(language):
    no_answer, not_asked = NONE[language]
    assert {label: says(label) for label in no_answer} == dict.fromkeys(no_answer, Says.NO_ANSWER)
    assert {label: says(label) for label in not_asked} == dict.fromkeys(not_asked, Says.NOT_ASKED)
    assert all(map(says_not_asked, not_asked))
    assert not any(map(says_not_asked, no_answer))


ANSWERS = """
No|None|Neither agree nor disagree|No religion|Not at all|Refuse to pay|Refused asylum|Missing my family|Nose
Never heard of|Completely agree|Nothing|No confidence|Unsafe|Ninguno|Nada satisfecho|Ni de acuerdo ni en desacuerdo
Sin estudios|No confía|Rechaza pagar|Nein|Keine|Stimme nicht zu|Überhaupt nicht|Weder noch|Nicht wichtig|Non|Aucun
Pas du tout|Ni l'un ni l'autre|Não|Nenhum|Nada|Nessuno|Per niente|Geen|Helemaal niet|没有|不同意|从不|拒绝支付|いいえ
どちらでもない|아니오|없음|Нет|Никогда|Никто|Совсем не доверяю|لا|لا أحد|لا أوافق|नहीं|कोई नहीं|Hayır|Hiçbiri|Nie|Nikt
Ne|Không|Tidak|Hapana|না
"""


@pytest.mark.parametrize("label", ANSWERS.strip().replace("\n", "|").split("|"))
def test_answers_with_such_words_in_them_are_answers(label):
    assert says(label) in (None, Says.ANSWER)


@pytest.mark.parametrize(
    "label", ["Don't know enough about it", "Neither / don't know", "No sabe cuándo", "No opinion", "沒有意見"]
)
def test_what_may_be_either_is_doubtful(label):
    assert says(label) is Says.DOUBTFUL


def test_a_part_of_a_label_tells_why_a_missing_code_is_missing():
    assert says_not_asked("Question was not asked in 1998")
    assert says_not_asked("trifft nicht zu")
    assert not says_not_asked("Refused, not applicable")
    assert not says_not_asked("Interviewer error")


COLUMNS = {  # what a column is -> its name, and its label where it has one
    "country": ["pais", "v1|País", "isocntry", "cntry", "S003", "x|国家", "ulke", "b_country_alpha", "v|Χώρα"],
    "sex": ["sexo", "gndr", "X001", "d10|GENDER", "v5|Geschlecht der befragten Person", "q|性别", "q|Пол респондента"],
    "age": [
        *("edad", "agea", "X003", "F_AGECAT", "recage", "ageGroup", "d11|AGE EXACT", "alter", "idade", "q|您的年龄"),
        *("sd2|Edad del entrevistado", "q|Age of respondent", "q|나이", "q|العمر", "wiek2"),
    ],
    "education": ["p_education", "eisced", "v|Highest level of education completed", "escolaridad", "q|学历"],
}


@pytest.mark.parametrize(("what", "column"), [(what, c) for what, columns in COLUMNS.items() for c in columns])
def test_what_columns_are_called(what, column):
    name, _, label = column.partition("|")
    assert about(name, label or None)[0] == {what}


@pytest.mark.parametrize(
    "column",
    [
        *(
            "age_first_marriage",
            "q|Sex education in schools",
            "q|State of health services",
            "q|性别平等",
            "q|国民の信頼",
        ),
        *("stage", "message", "q|Do you own land?", "q|An image"),
    ],
)
def test_a_word_among_others_names_no_column(column):
    name, _, label = column.partition("|")
    assert not about(name, label or None)[0]
