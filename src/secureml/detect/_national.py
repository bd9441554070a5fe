"""
Personal numbers that states issue, written in digits alone.

A `Form` is one way to write one kind: lengths of the groups of digits, what
stands between them, the check, and whether the number counts only after a
word that announces it.  A check digit of one in ten alone is not enough to
call any nine digits a person: such forms are announced (``cued``).

Source: each check function.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from secureml.detect._checksums import is_date, iso7064_mod11_10, luhn, verhoeff, weighted

__all__ = ["FORMS", "Form", "cn_resident"]


@dataclass(frozen=True, slots=True)
class Form:
    """
    One way to write one kind of number.

    Attributes:
        kind: What it is.
        lengths: Digits of each group.
        between: What may stand between the groups, all joined: ``--``.
        check: Takes all digits together.
        cue: Words of which one has to stand before it, or None.
        weak: Whether columns of numbers look like it, one in ten.
    """

    kind: str
    lengths: tuple[int, ...]
    between: frozenset[str]
    check: Callable[[str], bool]
    cue: re.Pattern[str] | None = None
    weak: bool = False


_ANY_CENTURY: Final = 2000
"""A leap year: the century of two digits is not known."""


def _yymmdd(digits: str) -> bool:
    year, month, day = digits[:2], digits[2:4], digits[4:6]
    return is_date(_ANY_CENTURY + int(year), month, day) or is_date(1900 + int(year), month, day)


def _ddmmyy(digits: str) -> bool:
    return _yymmdd(digits[4:6] + digits[2:4] + digits[:2])


def _us_ssn(digits: str) -> bool:
    """Source: Social Security Administration, POMS RM 10201.035 (impossible numbers)."""
    area = digits[:3]
    return (
        area not in {"000", "666"}
        and area < "900"
        and digits[3:5] != "00"
        and digits[5:] != "0000"
    )


def _us_itin(digits: str) -> bool:
    """Source: IRS Publication 1915: 9, then a group that is in one of the ranges."""
    group = int(digits[3:5])
    ranges = ((50, 65), (70, 88), (90, 92), (94, 99))
    return digits[0] == "9" and any(low <= group <= high for low, high in ranges)


def _uk_nhs(digits: str) -> bool:
    """Source: NHS Data Dictionary, NHS NUMBER, modulus 11."""
    return weighted(digits, range(10, 0, -1)) % 11 == 0 and len(set(digits)) > 1


def _fr_nir(digits: str) -> bool:
    """Source: INSEE, numéro d'inscription au répertoire; key 97 less the number modulo 97."""
    month = int(digits[3:5])
    known = month in range(1, 13) or month in range(20, 43) or month in range(50, 100)
    return digits[0] in "123478" and known and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _de_steuer_id(digits: str) -> bool:
    """Source: BZSt, IdNr: one digit two or three times among the first ten, MOD 11,10."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    return (
        digits[0] != "0"
        and counts[-1] in {2, 3}
        and counts[:-1].count(1) == len(counts) - 1
        and iso7064_mod11_10(digits)
    )


def _nl_bsn(digits: str) -> bool:
    """Source: Rijksdienst voor Identiteitsgegevens, elfproef."""
    return weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and digits != "0" * 9


def _pl_pesel(digits: str) -> bool:
    """Source: Poland, ustawa o ewidencji ludności; the century is in the month."""
    month = int(digits[2:4])
    century = {0: 1900, 20: 2000, 40: 2100, 60: 2200, 80: 1800}.get(month // 20 * 20)
    return (
        century is not None
        and is_date(century + int(digits[:2]), str(month % 20), digits[4:6])
        and weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0
    )


def _se_personnummer(digits: str) -> bool:
    """Source: Skatteverket, SKV 704: Luhn; the day of a coordination number is 60 more."""
    ten = digits[-10:]
    day = int(ten[4:6])
    real = ten[:4] + f"{day - 60 if day > 60 else day:02}"  # noqa: PLR2004  as above
    if len(digits) == 12 and digits[:2] not in {"18", "19", "20"}:  # noqa: PLR2004  with century
        return False
    return _yymmdd(real) and luhn(ten)


def _se_twelve(digits: str) -> bool:
    # 202401021530 is a time far more often than a person.
    time = digits[:2] == "20" and digits[8:10] < "24" and digits[10:] < "60"
    return not time and _se_personnummer(digits)


def _no_fodselsnummer(digits: str) -> bool:
    """Source: Skatteetaten; two check digits modulo 11; D and H numbers add 40."""
    day, month = int(digits[:2]), int(digits[2:4])
    day, month = day - 40 if day > 40 else day, month - 40 if month > 40 else month  # noqa: PLR2004
    return (
        _ddmmyy(f"{day:02}{month:02}{digits[4:6]}")
        and weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def _be_national(digits: str) -> bool:
    """Source: Belgium, arrêté royal du 3 avril 1984; modulo 97, with a 2 before from 2000 on."""
    check = int(digits[9:])
    fits = check in {97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97}
    return fits and int(digits[2:4]) % 20 <= 12 and int(digits[4:6]) <= 31  # noqa: PLR2004


def _ch_ahv(digits: str) -> bool:
    """Source: Switzerland, AHVV article 133; an EAN-13 that begins with 756."""
    return digits[:3] == "756" and weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0


def _at_svnr(digits: str) -> bool:
    """Source: Austria, Dachverband der Sozialversicherungsträger; the fourth digit checks."""
    check = weighted(digits, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11
    return digits[0] != "0" and check == int(digits[3]) and int(digits[6:8]) <= 15  # noqa: PLR2004


def _pt_nif(digits: str) -> bool:
    """Source: Portugal, Decreto-Lei 14/2013; modulo 11, the first digit of a person."""
    check = weighted(digits, range(9, 1, -1)) % 11
    return digits[0] in "123" and int(digits[8]) == (0 if check < 2 else 11 - check)  # noqa: PLR2004


def _br_cpf(digits: str) -> bool:
    """Source: Receita Federal, Instrução Normativa RFB 1548; two digits modulo 11."""
    if len(set(digits)) == 1:
        return False
    first = weighted(digits, range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(digits, range(11, 1, -1)) * 10 % 11 % 10
    return digits[9:] == f"{first}{second}"


def _in_aadhaar(digits: str) -> bool:
    """Source: UIDAI, A UID Numbering Scheme (2010): Verhoeff, not beginning with 0 or 1."""
    years = all(digits[n : n + 2] in {"19", "20"} for n in (0, 4, 8))
    return digits[0] > "1" and not years and digits != digits[::-1] and verhoeff(digits)


def cn_resident(digits: str) -> bool:
    """
    Return whether 17 digits and a digit or X are a Chinese resident number.

    Source: GB 11643-1999; ISO 7064 MOD 11-2, X is the digit ten.
    """
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return (
        digits[0] in "12345678"
        and digits[6:8] in {"18", "19", "20"}
        and is_date(int(digits[6:10]), digits[10:12], digits[12:14])
        and digits[17].upper() == "10X98765432"[weighted(digits, weights) % 11]
    )


def _kr_rrn(digits: str) -> bool:
    """Source: Korea, Resident Registration Act; numbers since October 2020 have no check digit."""
    return digits[6] in "12345678" and _yymmdd(digits)


def _jp_my_number(digits: str) -> bool:
    """Source: Japan, Ordinance 85 of the Ministry of Internal Affairs (2014), article 5."""
    rest = weighted(digits, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(digits[11]) == (0 if rest < 2 else 11 - rest)  # noqa: PLR2004  as the ordinance


def _za_id(digits: str) -> bool:
    """Source: South Africa, Identification Act 68 of 1997; Luhn."""
    return digits[10] in "012" and digits[11] in "89" and _yymmdd(digits) and luhn(digits)


def _tr_kimlik(digits: str) -> bool:
    """Source: Turkey, Nüfus ve Vatandaşlık İşleri; the tenth and eleventh digits check."""
    values = [int(digit) for digit in digits]
    tenth = (sum(values[:9:2]) * 7 - sum(values[1:8:2])) % 10
    return values[0] != 0 and values[9] == tenth and values[10] == sum(values[:10]) % 10


def _ca_sin(digits: str) -> bool:
    """Source: Canada, Social Insurance Number Regulations; Luhn, not beginning with 0 or 8."""
    return digits[0] in "12345679" and luhn(digits)


def _au_tfn(digits: str) -> bool:
    """Source: Australian Taxation Office; weights modulo 11."""
    return weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0 and digits != "0" * 9


def _ro_cnp(digits: str) -> bool:
    """Source: Romania, Legea 105/1996; weights 279146358279 modulo 11."""
    county = int(digits[7:9])
    check = weighted(digits, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (
        digits[0] != "0"
        and _yymmdd(digits[1:])
        and (1 <= county <= 52 or county in {70, 80, 81, 82, 83})  # noqa: PLR2004  counties
        and int(digits[12]) == (1 if check == 10 else check)  # noqa: PLR2004  the law's exception
    )


def _cz_rc(digits: str) -> bool:
    """Source: Czechia and Slovakia, zákon 133/2000 Sb., § 13; divisible by eleven."""
    month = int(digits[2:4])
    real = next((month - n for n in (70, 50, 20) if month > n), month)
    if not _yymmdd(f"{digits[:2]}{real:02}{digits[4:6]}"):
        return False
    return len(digits) == 9 or int(digits) % 11 == 0 or int(digits[:9]) % 11 % 10 == int(digits[9])  # noqa: PLR2004


def _ee_lt_code(digits: str) -> bool:
    """Source: Estonia, EVS 585:2007, and Lithuania's asmens kodas; two rounds of weights."""
    first = weighted(digits, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    second = weighted(digits, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    check = second if first == 10 else first  # noqa: PLR2004  the second round
    return digits[0] in "12345678" and _yymmdd(digits[1:]) and int(digits[10]) == check


def _dk_cpr(digits: str) -> bool:
    """Source: Denmark, CPR-loven; numbers since 2007 need no check digit, so the date decides."""
    return _ddmmyy(digits)


def _words(*words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(words)})(?![^\W_])[^0-9]{{0,20}}$", re.IGNORECASE)


def _form(
    kind: str,
    lengths: tuple[int, ...],
    between: str,
    check: Callable[[str], bool],
    cue: re.Pattern[str] | None = None,
    *,
    weak: bool = False,
) -> Form:
    gaps = len(lengths) - 1
    ways = {way if len(way) == gaps else way * gaps for way in between.split("|")}
    return Form(kind, lengths, frozenset(ways), check, cue, weak)


_SSN: Final = _words(
    "ssns?", r"social[ _]security(?:[ _](?:number|no\.?|nr\.?|id))?", "itin", "tin"
)
_NHS: Final = _words("nhs(?:[ _](?:number|no\\.?))?")
_BSN: Final = _words("bsn", "burgerservicenummer", "sofi(?:nummer)?")
_SE: Final = _words("personnummer", "pnr", "samordningsnummer", "personal[ _]identity[ _]number")
_AT: Final = _words("svnr", "sozialversicherungsnummer", "sv-nummer", "versicherungsnummer")
_PT: Final = _words("nif", "contribuinte", "n[úu]mero de identifica[çc][ãa]o fiscal")
_IN: Final = _words("aadhaa?r(?:[ _](?:number|no\\.?|card))?", "uidai", "uid", "आधार")
_JP: Final = re.compile(r"(?:my ?number|マイナンバー|個人番号)[^0-9]{0,20}$", re.IGNORECASE)
_CA: Final = _words("sin", "social[ _]insurance(?:[ _](?:number|no\\.?))?", "nas")
_AU: Final = _words("tfn", "tax[ _]file(?:[ _](?:number|no\\.?))?")
_KR: Final = re.compile(r"(?:rrn|주민등록번호|주민번호)[^0-9]{0,20}$", re.IGNORECASE)
_BE: Final = _words("rijksregisternummer", "numéro national", "nrn", "niss", "insz", "rrn")
_CZ: Final = _words("rodn[ée] [čc][íi]slo", "r\\. ?[čc]\\.", "rodne_cislo")
_DK: Final = _words("cpr(?:[ -]?(?:nr\\.?|nummer))?", "personnummer")

FORMS: Final = (
    _form("us-ssn", (3, 2, 4), "-| ", _us_ssn),
    _form("us-ssn", (9,), "", _us_ssn, _SSN),
    _form("us-itin", (3, 2, 4), "-| ", _us_itin),
    _form("us-itin", (9,), "", _us_itin, _SSN),
    _form("uk-nhs", (3, 3, 4), " |-", _uk_nhs, weak=True),
    _form("uk-nhs", (10,), "", _uk_nhs, _NHS),
    _form("fr-nir", (15,), "", _fr_nir),
    _form("fr-nir", (13, 2), " |-|/", _fr_nir),
    _form("fr-nir", (1, 2, 2, 2, 3, 3, 2), " |-|.", _fr_nir),
    _form("fr-nir", (1, 2, 2, 2, 3, 3, 2), "     -|     /", _fr_nir),
    _form("de-steuer-id", (11,), "", _de_steuer_id),
    _form("de-steuer-id", (2, 3, 3, 3), " |-|/", _de_steuer_id),
    _form("nl-bsn", (9,), "", _nl_bsn, _BSN),
    _form("nl-bsn", (4, 2, 3), ".| ", _nl_bsn),
    _form("pl-pesel", (11,), "", _pl_pesel),
    _form("se-personnummer", (6, 4), "-", _se_personnummer),
    _form("se-personnummer", (8, 4), "-| ", _se_personnummer),
    _form("se-personnummer", (12,), "", _se_twelve),
    _form("se-personnummer", (10,), "", _se_personnummer, _SE),
    _form("no-fodselsnummer", (11,), "", _no_fodselsnummer),
    _form("no-fodselsnummer", (6, 5), " |-", _no_fodselsnummer),
    _form("dk-cpr", (6, 4), "-", _dk_cpr),
    _form("dk-cpr", (10,), "", _dk_cpr, _DK),
    _form("be-national", (11,), "", _be_national, _BE),
    _form("be-national", (2, 2, 2, 3, 2), "..-.|  - |..  | |-|.", _be_national),
    _form("ch-ahv", (13,), "", _ch_ahv),
    _form("ch-ahv", (3, 4, 4, 2), ".| ", _ch_ahv),
    _form("at-svnr", (4, 6), " |-|/", _at_svnr),
    _form("at-svnr", (10,), "", _at_svnr, _AT),
    _form("pt-nif", (9,), "", _pt_nif, _PT),
    _form("pt-nif", (3, 3, 3), " ", _pt_nif, _PT),
    _form("br-cpf", (11,), "", _br_cpf),
    _form("br-cpf", (3, 3, 3, 2), "..-|   |---", _br_cpf),
    _form("in-aadhaar", (4, 4, 4), " |-", _in_aadhaar, weak=True),
    _form("in-aadhaar", (12,), "", _in_aadhaar, _IN),
    _form("cn-resident", (18,), "", cn_resident),
    _form("cn-resident", (6, 8, 4), " |-", cn_resident),
    _form("kr-rrn", (6, 7), "-", _kr_rrn),
    _form("kr-rrn", (13,), "", _kr_rrn, _KR),
    _form("jp-my-number", (12,), "", _jp_my_number, _JP),
    _form("jp-my-number", (4, 4, 4), " |-", _jp_my_number, _JP),
    _form("za-id", (13,), "", _za_id),
    _form("za-id", (6, 4, 3), " ", _za_id),
    _form("za-id", (6, 4, 2, 1), " ", _za_id),
    _form("tr-kimlik", (11,), "", _tr_kimlik),
    _form("ca-sin", (3, 3, 3), "-", _ca_sin),
    _form("ca-sin", (3, 3, 3), " ", _ca_sin, _CA),
    _form("ca-sin", (9,), "", _ca_sin, _CA),
    _form("au-tfn", (3, 3, 3), " |-", _au_tfn, _AU),
    _form("au-tfn", (9,), "", _au_tfn, _AU),
    _form("ro-cnp", (13,), "", _ro_cnp),
    _form("cz-rc", (6, 4), "/", _cz_rc),
    _form("cz-rc", (6, 3), "/", _cz_rc),
    _form("cz-rc", (10,), "", _cz_rc, _CZ),
    _form("ee-lt-code", (11,), "", _ee_lt_code),
)
"""Earlier ones win where two fit."""
