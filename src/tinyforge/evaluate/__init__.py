"""Compare the variants of a model on held-out questions, and say plainly what came out.

Everything here receives answers as data; nothing runs a model.

    metrics.py     one answer against its references -> a number
    bootstrap.py   numbers per question -> a mean with an interval that respects facts
    compare.py     the score table, the paired differences, the recall of retrieval
    verdict.py     the differences -> a plain sentence and the variant that chat will use
    legend.py      what sets, variants and metrics are called, in plain words
    cells.py       which columns a score table has, what is best in one, how numbers are written
    report.py      the report and its schema -> one self-contained HTML file; its parts are in sections.py,
                   answers.py, charts.py, markup.py and report.css
    table.py       the report -> a table for the terminal
"""
