"""Word lists that templates name in angle brackets."""

LISTS: dict[str, list[str]] = {
    "pg": ["postgresql", "postgres", "PostgreSQL", "Postgres", "postgresql", "postgres", "PostgreSQL", "Postgres", "postgre", "postgre sql", "pgsql", "pg", "the postgres database", "the postgresql database"],
    "project": ["hartonomous", "Hartonomous", "hartonomous", "Hartonomous", "the hartonomous project", "hartonomous project", "the project hartonomous", "hartonomus", "hartonomous software"],
    "it": ["it", "this", "that", "this thing", "this project", "this program", "this software", "this model", "this tool", "this system", "hartonomous", "Hartonomous", "hartonomous", "the model", "your model"],
    "me_or_it": ["you", "you", "you", "hartonomous", "Hartonomous", "this model", "the model", "this program", "this bot", "this thing", "this assistant", "this chatbot"],
    "are_you": ["are you", "are you", "are you", "is hartonomous", "is this", "is this thing", "is this model", "is it", "so you are", "you are"],
    "do_you": ["do you", "do you", "do you", "does hartonomous", "does it", "does this model", "does this thing", "will you"],
    "person": [
        "Lily", "Tom", "Anna", "Ben", "Sara", "Max", "Mia", "Leo", "Emma", "Jack", "Lucy", "Sam", "Nina", "Paul", "Eva", "Mark", "Alex", "Maria", "John", "David", "Kate", "Peter", "Laura",
        "Chris", "Amy", "Bob", "Alice", "Carlos", "Yuki", "Ahmed", "Olga", "Ivan", "Fatima", "Chen", "Priya", "Lars", "Zoe", "Oscar", "Helen", "Steve", "Robert", "Julia", "Daniel",
    ],
    "define": [
        "what is", "what is", "what is", "what's", "what's", "whats", "what exactly is", "what is meant by", "what do you mean by", "what do you know about", "tell me about", "tell me about", "tell me something about",
        "tell me a bit about", "tell me more about", "explain", "explain", "please explain", "explain to me", "define", "please define", "describe", "give me a definition of", "definition of", "the meaning of", "meaning of",
        "what kind of thing is", "what sort of thing is", "how would you describe", "how would you define", "how do you define", "can you describe", "can you explain", "could you explain", "i want to learn about",
        "teach me about", "teach me something about", "help me understand", "give me a short explanation of", "give me some information about", "info about", "information on", "i need information about", "have you heard of",
        "do you know", "do you know anything about", "what can you tell me about", "so what is", "what on earth is", "what the heck is", "what in the world is", "who or what is", "i don't understand", "i do not know",
        "i never heard of", "i have no idea about", "can you give me a summary of", "summarize", "introduce", "a few words about", "say something about", "let's talk about", "we need to talk about", "what about", "how about",
        "i am confused about", "enlighten me about", "how can i understand", "what is this", "what is the thing called", "what's the deal with", "what's the point of", "why do people talk about", "i read about",
    ],
}

DEFINITION = [
    "<define> {X}", "<define> {X}", "<define> {X}", "<define> {X}", "what {X} is", "tell me what {X} is", "what does {X} mean", "what does the word {BARE} mean", "what {X} means", "i don't know what {X} is",
    "explain what {X} is", "explain what {X} means", "do you know what {X} is", "could you explain what {X} is", "help me understand what {X} is", "remind me what {X} is", "tell me, what is {X}", "{X}", "{BARE}",
    "{X} explained", "{X} in {one sentence|simple words|simple terms|short|plain english|a few words}", "what is {X} in {one sentence|simple words|simple terms|short|plain english|a nutshell}",
    "explain {X} {in one sentence|in simple words|like i'm five|in plain english|to a beginner|to a child|quickly|briefly}", "what is {X} {all about|anyway|really|exactly|good for|in a database|here|for}",
    "{in short|briefly|basically|simply put|in general|again}, what is {X}", "what does {X} do", "why {do i|would i|do we|do people} {need|use|want} {X}", "what {do i|can i} use {X} for", "what is the {purpose|use|point|idea|role|benefit|definition|meaning} of {X}",
    "when {should|would|do} {i|you} use {X}", "how does {X} work", "how {do|would|can} i use {X}", "is {X} {useful|important|good}", "my {teacher|boss|friend|colleague} {asked me about|talked about|mentioned} {X}",
    "{people|they|some people} {talk about|mention} {X}, what is {it|that}", "i {read|heard} {the word|the term|about} {BARE}, what {is it|is that|does it mean}", "{BARE} meaning", "{BARE} definition", "what {X} {does|stands for|is for}",
    "what {BARE} {is|are|mean}", "what is {BARE}", "can you tell me what {X} is", "i'd like to understand {X}", "what should i know about {X}", "what do you call {X}", "what is called {BARE}",
]


def definition(article: str, *names: str, weight: float = 1.0) -> tuple[list[str], float]:
    """Build the templates that ask what a named thing is; `article` is "a", "an", "the" or empty."""
    bare = "{" + "|".join(names) + "}"
    with_article = f"{article} {bare}" if article else bare
    return [form.replace("{X}", "{" + with_article + "}").replace("{BARE}", bare) for form in DEFINITION], weight
