"""The tutorials as lessons: pages of Markdown whose commands are run, from the terminal and from the tests.

page.py      a page of Markdown -> its blocks: prose, commands, Python, files, outputs, quizzes
place.py     where the pages lie, and their order
workspace.py runs the blocks of a page in a folder
notebook.py  the same page as a Jupyter notebook
progress.py  what a learner has done
"""
