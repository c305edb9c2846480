#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes those files of documents/ that are no plain text: the notes in other encodings, a DOCX file and PDF files. The
files whose names end in .expected are what `hobctl extract FILE --json` has as text; they were checked by hand.

    make_documents.py documents"""
import sys
import zipfile
from pathlib import Path

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def paragraph(text, style=None, run="", properties=""):
    style = f'<w:pStyle w:val="{style}"/>' if style else ""
    return (f"<w:p><w:pPr>{style}{properties}</w:pPr><w:r><w:rPr>{run}</w:rPr>"
            f'<w:t xml:space="preserve">{text}</w:t></w:r></w:p>')


def row(*cells):
    return "<w:tr>" + "".join(f"<w:tc>{paragraph(c)}</w:tc>" for c in cells) + "</w:tr>"


ITEM = '<w:numPr><w:ilvl w:val="{}"/><w:numId w:val="1"/></w:numPr>'
DOCX = {
    "[Content_Types].xml":
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'wordprocessingml.document.main+xml"/></Types>',
    "_rels/.rels":
        f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1" Type="{OFFICE}/officeDocument" '
        'Target="word/document.xml"/></Relationships>',
    "docProps/core.xml":
        '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Hearth report</dc:title></cp:coreProperties>',
    "word/styles.xml":
        f'<w:styles {W}><w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style></w:styles>',
    "word/document.xml":
        f"<w:document {W}><w:body>" + paragraph("Findings", "berschrift1") +
        paragraph("The flue was swept on 3 May; draught is 12 Pa.") +
        paragraph("Nobody sees this.", run="<w:vanish/>") +
        paragraph("Repairs", "berschrift2") +
        paragraph("Replace the grate", properties=ITEM.format(0)) +
        paragraph("the left one", properties=ITEM.format(1)) +
        "<w:tbl>" + row("Part", "Price") + row("Grate", "40 \u20ac") + "</w:tbl>" +
        "<w:p><w:r><w:t>Signed</w:t></w:r><w:del><w:r><w:delText> by nobody</w:delText></w:r></w:del></w:p>"
        "</w:body></w:document>",
}


def pdf(objects, trailer=""):
    """A PDF file of the given objects, the first of which is the catalog."""
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body.encode("latin-1"))
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % o for o in offsets)
    return out + (b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n"
                  % (len(objects) + 1, trailer.encode("latin-1"), start))


def page_pdf(content, trailer="", font="/Type /Font /Subtype /Type1 /BaseFont /Helvetica", extra=()):
    return pdf(["<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
                "/Resources << /Font << /F1 5 0 R >> >> >>",
                f"<< /Length {len(content)} >>\nstream\n{content}\nendstream", f"<< {font} >>", *extra], trailer)


def lines(*texts):
    shown = " ".join(f"({t}) Tj T*" for t in texts)
    return f"BT /F1 12 Tf 14 TL 70 780 Td {shown} ET"


def main(folder):
    notes = (folder / "notes.txt").read_text("utf-8")
    (folder / "notes_bom.txt").write_bytes(notes.encode("utf-8-sig"))
    (folder / "notes_utf16le.txt").write_bytes(b"\xff\xfe" + notes.encode("utf-16-le"))
    (folder / "notes_utf16be.txt").write_bytes(b"\xfe\xff" + notes.encode("utf-16-be"))
    (folder / "notes_windows1252.txt").write_bytes(notes.replace("\n", "\r\n").encode("cp1252"))
    with zipfile.ZipFile(folder / "report.docx", "w") as z:
        for name, text in DOCX.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(info, '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n' + text)
    (folder / "letter.pdf").write_bytes(page_pdf(lines(
        "Dear Sir,", "the hearth of house 12 was mea-", "sured on Monday. It draws well.", "Yours, the sweep")))
    (folder / "picture.pdf").write_bytes(page_pdf("0 0 100 100 re f"))
    # no password opens it: the hashes of both are made up
    (folder / "encrypted.pdf").write_bytes(page_pdf(
        lines("secret"), "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{0}> /U <{0}> >> /ID [<00> <00>]".format("5a" * 32)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
