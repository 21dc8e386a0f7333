# fish completion for mlctl, made by `python -m mlctl.cli.completions`.
# TAB starts no Python: awk reads the step names out of the recipe.

# Prints the command and its arguments among these words of a line.
function __mlctl_arguments
    set -l is_value no
    set -l only_arguments no
    for word in $argv[2..]
        if test $is_value = yes
            set is_value no
        else if test $only_arguments = no -a "$word" = --
            set only_arguments yes
        else if test $only_arguments = no; and string match -q -- '-?*' $word
            contains -- $word --set --store --until --force --device --threads --junit --output -o --nproc-per-node --nnodes --rdzv-endpoint --from --data --repository --step --name --host --port --grpc-port --workers --intra-op-threads --runtime --tokens --certificate --key --audit --target --seed --open-size --batch --rounds --gate --split --prompt --temperature --top-k --top-p --to --as --model --rate --expires --rows --tolerance
            and set is_value yes
        else
            printf '%s\n' $word
        end
    end
end

# Whether no command stands before the cursor.
function __mlctl_at_command
    test (count (__mlctl_arguments (commandline -opc))) = 0
end

# Whether one of these commands does.
function __mlctl_in
    set -l arguments (__mlctl_arguments (commandline -opc))
    set -q arguments[1]; and contains -- $arguments[1] $argv
end

function __mlctl_at_first
    test (count (__mlctl_arguments (commandline -opc))) = 1; and __mlctl_in $argv
end

function __mlctl_at_later
    test (count (__mlctl_arguments (commandline -opc))) -gt 1; and __mlctl_in $argv
end

function __mlctl_recipes
    __mlctl_paths | string match -r '.*(?:/|\.ya?ml)$'
end

function __mlctl_folders
    __mlctl_paths | string match '*/'
end

# Prints every path that begins with the word at the cursor, or with what follows its --option=.
function __mlctl_paths
    complete -C "'' "(string replace -r -- '^--[a-z-]+=' '' (commandline -ct))
end

# Prints the step names of the recipe on the line, each with the ending that is given.
function __mlctl_steps
    set -l recipe (__mlctl_arguments (commandline -opc))[2]
    set recipe (string replace -r '^~/' "$HOME/" -- "$recipe")
    test -f "$recipe" -a -r "$recipe"; or return
    for step in (LC_ALL=C awk '/^["\\047]?(prepare|train|prune|distill|export|quantize|eval|serve)(\\.[a-z0-9][a-z0-9_-]*)?["\\047]?[ \\t]*:([ \\t\\r]|$)/ {
      gsub(/["\\047]|[ \\t]*:.*/, ""); print
    }' <$recipe 2>/dev/null)
        echo "$step$argv"
    end
end

complete -c mlctl -f
complete -c mlctl -n '__mlctl_at_command' -l version -d 'Print the version.'
complete -c mlctl -n '__mlctl_at_command' -s h -l help -d 'Show this message and exit.'
complete -c mlctl -n '__mlctl_at_command' -a run -d 'Run the whole recipe: every step that is not there yet, then the gates.'
complete -c mlctl -n '__mlctl_at_command' -a prepare -d 'Read, clean and split the data.'
complete -c mlctl -n '__mlctl_at_command' -a train -d 'Train a network.'
complete -c mlctl -n '__mlctl_at_command' -a prune -d 'Take parts out of a network.'
complete -c mlctl -n '__mlctl_at_command' -a distill -d 'Let a small network learn from a large one.'
complete -c mlctl -n '__mlctl_at_command' -a export -d 'Turn trained models into ONNX graphs, and compare them.'
complete -c mlctl -n '__mlctl_at_command' -a quantize -d 'Turn floats into integers, and compare them.'
complete -c mlctl -n '__mlctl_at_command' -a eval -d 'Run every model on the same held-out data.'
complete -c mlctl -n '__mlctl_at_command' -a serve -d 'Answer requests over the network.'
complete -c mlctl -n '__mlctl_at_command' -a plan -d 'Say for every step whether it would be reused, run or resumed, and why.'
complete -c mlctl -n '__mlctl_at_command' -a show -d 'Show where every step\'s artifact lies and what it measured, or the recipe with every default.'
complete -c mlctl -n '__mlctl_at_command' -a init -d 'Look at a data file and write a commented recipe that runs; `--output -` prints it.'
complete -c mlctl -n '__mlctl_at_command' -a schema -d 'Print the JSON Schema of recipes, for an editor\'s YAML server.'
complete -c mlctl -n '__mlctl_at_command' -a verify -d 'Read every file of the store again; exit 3 names what is damaged.'
complete -c mlctl -n '__mlctl_at_command' -a gc -d 'List, or remove, artifacts that neither these recipes nor others that use the store need.'
complete -c mlctl -n '__mlctl_at_command' -a doctor -d 'Say what this machine has: cores, instruction sets, GPU, library versions, and the store\'s health.'
complete -c mlctl -n '__mlctl_at_command' -a inspect -d 'Say what a model takes, gives, holds and computes, and where it came from; nothing is run.'
complete -c mlctl -n '__mlctl_at_command' -a bench -d 'Time ONNX models in turns, with intervals; exit 22 where a gate fails, 25 where it cannot be decided.'
complete -c mlctl -n '__mlctl_at_command' -a compare -d 'Set models against the first: quality with intervals, agreement, classes that lost, size and latency.'
complete -c mlctl -n '__mlctl_at_command' -a generate -d 'Let a language model go on with a text, which comes as it is made; what it needs is made first.'
complete -c mlctl -n '__mlctl_at_command' -a publish -d 'Publish a model as the next version of a repository, if its gates pass; what it needs is made first.'
complete -c mlctl -n '__mlctl_at_command' -a models -d 'List a repository\'s models: versions, labels, from what they were made, and why one was refused.'
complete -c mlctl -n '__mlctl_at_command' -a promote -d 'Let a label point to a version, after all of its files were read again.'
complete -c mlctl -n '__mlctl_at_command' -a rollback -d 'Let a label point to where it did before; again, and it goes back further.'
complete -c mlctl -n '__mlctl_at_command' -a token -d 'Say who may use a server, and for what.'
complete -c mlctl -n '__mlctl_at_command' -a debug -d 'Find out what goes wrong between two forms of one model.'
complete -c mlctl -n '__mlctl_at_first run prepare train prune distill export quantize eval plan show verify generate publish' -x -a '(__mlctl_recipes)'
complete -c mlctl -n '__mlctl_at_later run prepare train prune distill export quantize eval serve plan show generate publish' -x -a '(__mlctl_steps .)'
complete -c mlctl -n '__mlctl_at_first serve' -r -F
complete -c mlctl -n '__mlctl_at_first init' -r -F
complete -c mlctl -n '__mlctl_at_first gc' -x -a '(__mlctl_recipes)'
complete -c mlctl -n '__mlctl_at_later gc' -x -a '(__mlctl_recipes)'
complete -c mlctl -n '__mlctl_at_first inspect' -r -F
complete -c mlctl -n '__mlctl_at_first bench compare' -r -F
complete -c mlctl -n '__mlctl_at_later bench compare' -r -F
complete -c mlctl -n '__mlctl_at_first models' -x -a '(__mlctl_folders)'
complete -c mlctl -n '__mlctl_at_later models' -x
complete -c mlctl -n '__mlctl_at_first promote' -x
complete -c mlctl -n '__mlctl_at_first rollback' -x
complete -c mlctl -n '__mlctl_at_first token' -x -a 'create list revoke'
complete -c mlctl -n '__mlctl_at_later token' -x
complete -c mlctl -n '__mlctl_at_first debug' -x -a 'parity'
complete -c mlctl -n '__mlctl_at_later debug' -r -F
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve plan show verify generate publish' -l set -x -a '(__mlctl_steps .)' -d 'Replace one value of the recipe, such as train.epochs=3.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve plan show verify gc doctor bench compare generate publish debug' -l store -x -a '(__mlctl_folders)' -d 'Where artifacts lie.'
complete -c mlctl -n '__mlctl_in run plan' -l until -x -a '(__mlctl_steps)' -d 'Leave out what stands below this step.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve plan publish' -l force -x -a '(__mlctl_steps)' -d 'Make this step again, whatever is there.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval' -l keep-going -d 'After a failure, go on with what does not need it.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval verify bench compare generate publish' -l device -x -a 'auto cpu cuda tensorrt' -d 'Where to train, and where to run graphs.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve verify generate publish' -l threads -x -d 'Cores to use; by default OMP_NUM_THREADS, else all.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve verify compare generate publish debug' -l allow-code -d 'Let the recipe import the network that it names by import path.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve plan show verify doctor inspect bench compare generate publish models promote rollback token debug' -l json -d 'Print one JSON document and nothing else.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval bench publish' -l junit -r -F -d 'Write the gates as JUnit XML.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve verify bench compare generate publish' -l quiet -d 'Tell nothing on stderr but errors.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve plan show init verify gc doctor inspect bench compare generate publish models promote rollback token debug' -l debug -d 'Show tracebacks.'
complete -c mlctl -n '__mlctl_in run prepare train prune distill export quantize eval serve plan show init schema verify gc doctor inspect bench compare generate publish models promote rollback token debug' -s h -l help -d 'Show this message and exit.'
complete -c mlctl -n '__mlctl_in train' -l find-lr -d 'Try learning rates instead, and suggest one; nothing is trained.'
complete -c mlctl -n '__mlctl_in train prune export quantize init' -s o -l output -r -F -d 'The file to write.'
complete -c mlctl -n '__mlctl_in train' -l nproc-per-node -x -d 'Processes on this machine that train one model.'
complete -c mlctl -n '__mlctl_in train' -l nnodes -x -d 'Machines on which this same command is started.'
complete -c mlctl -n '__mlctl_in train' -l rdzv-endpoint -x -d 'Where the machines meet: a free port of one of them.'
complete -c mlctl -n '__mlctl_in prune' -l sensitivity -d 'Take units out of one layer at a time instead; nothing is pruned.'
complete -c mlctl -n '__mlctl_in export quantize' -l from -r -F -d 'An ONNX file that was made elsewhere; needs --data.'
complete -c mlctl -n '__mlctl_in export quantize bench compare debug' -l data -x -a '(__mlctl_recipes)' -d 'The recipe whose prepared data is used.'
complete -c mlctl -n '__mlctl_in serve' -l repository -x -a '(__mlctl_folders)' -d 'Serve all models of a repository.'
complete -c mlctl -n '__mlctl_in serve' -l step -x -a '(__mlctl_steps)' -d 'The step to serve; the last graph by default.'
complete -c mlctl -n '__mlctl_in serve' -l name -x -d 'What the model is called; by default the recipe or file.'
complete -c mlctl -n '__mlctl_in serve' -l host -x -d 'Where to listen.'
complete -c mlctl -n '__mlctl_in serve' -l port -x -d 'Port of HTTP; 0 takes a free one.'
complete -c mlctl -n '__mlctl_in serve' -l grpc-port -x -d 'Port of gRPC; left out by default.'
complete -c mlctl -n '__mlctl_in serve' -l workers -x -d 'Batches computed side by side.'
complete -c mlctl -n '__mlctl_in serve' -l intra-op-threads -x -d 'Threads of one batch.'
complete -c mlctl -n '__mlctl_in serve' -l runtime -x -a 'onnxruntime openvino' -d 'What runs the graphs.'
complete -c mlctl -n '__mlctl_in serve' -l device -x -a 'cpu cuda tensorrt' -d 'What graphs run on.'
complete -c mlctl -n '__mlctl_in serve' -l tokens -r -F -d 'Who may use it (`mlctl token` writes it).'
complete -c mlctl -n '__mlctl_in serve' -l certificate -r -F -d 'Speak TLS, with this certificate (PEM).'
complete -c mlctl -n '__mlctl_in serve' -l key -r -F -d 'The certificate\'s key.'
complete -c mlctl -n '__mlctl_in serve' -l audit -r -F -d 'Append who used which version when.'
complete -c mlctl -n '__mlctl_in serve' -l selftest -d 'Prove that an answer in a batch is the answer alone, and end.'
complete -c mlctl -n '__mlctl_in show' -l resolved -d 'Print the recipe with every default.'
complete -c mlctl -n '__mlctl_in init' -l target -x -d 'The column to predict; the last by default.'
complete -c mlctl -n '__mlctl_in verify' -l resume -d 'Train, kill a copy at a random step, resume it, and compare the weights.'
complete -c mlctl -n '__mlctl_in verify' -l seed -x -d 'What decides the step, for --resume; drawn by default.'
complete -c mlctl -n '__mlctl_in gc' -l delete -d 'Remove them; without it they are only listed.'
complete -c mlctl -n '__mlctl_in inspect' -l nodes -d 'List every node or tensor; --json always does.'
complete -c mlctl -n '__mlctl_in inspect' -l open-size -x -d 'Size of open dimensions beside the batch, for FLOPs.'
complete -c mlctl -n '__mlctl_in bench compare' -l batch -x -d 'A batch size to time; 1 and 32 by default.'
complete -c mlctl -n '__mlctl_in bench' -l threads -x -d 'A number of threads to time; 1 by default.'
complete -c mlctl -n '__mlctl_in bench compare' -l rounds -x -d 'Timed calls of each model and size.'
complete -c mlctl -n '__mlctl_in bench compare' -l runtime -x -a 'auto onnxruntime openvino' -d 'What runs the graphs; auto takes the faster.'
complete -c mlctl -n '__mlctl_in bench' -l open-size -x -d 'Size of open dimensions beside the batch, if made up.'
complete -c mlctl -n '__mlctl_in bench' -l gate -x -d 'What must hold, such as \'bench[int8].speedup_batch_1 >= 1.5\'.'
complete -c mlctl -n '__mlctl_in compare' -l split -x -a 'train validation test' -d 'The rows that all models answer.'
complete -c mlctl -n '__mlctl_in compare' -l markdown -d 'Print the table as Markdown.'
complete -c mlctl -n '__mlctl_in generate' -l prompt -x -d 'What to go on from; a line feed if empty.'
complete -c mlctl -n '__mlctl_in generate' -l step -x -a '(__mlctl_steps)' -d 'The step whose model generates; the last by default.'
complete -c mlctl -n '__mlctl_in generate' -l tokens -x -d 'How many tokens to generate.'
complete -c mlctl -n '__mlctl_in generate' -l temperature -x -d 'Below 1 bolder in what is likely; 0 takes the likeliest.'
complete -c mlctl -n '__mlctl_in generate' -l top-k -x -d 'Draw from the N likeliest tokens alone.'
complete -c mlctl -n '__mlctl_in generate' -l top-p -x -d 'Draw from the likeliest that reach this probability.'
complete -c mlctl -n '__mlctl_in generate' -l seed -x -d 'The same seed, the same text; the recipe\'s if none.'
complete -c mlctl -n '__mlctl_in publish' -l to -x -a '(__mlctl_folders)' -d 'The repository of models.'
complete -c mlctl -n '__mlctl_in publish' -l as -x -d 'A label that the version gets, as production.'
complete -c mlctl -n '__mlctl_in publish' -l name -x -d 'The model\'s name; the recipe\'s by default.'
complete -c mlctl -n '__mlctl_in publish' -l step -x -a '(__mlctl_steps)' -d 'The step whose graph it is; by default the served one.'
complete -c mlctl -n '__mlctl_in publish' -l again -d 'Make a new version even of an artifact that was published already.'
complete -c mlctl -n '__mlctl_in promote rollback' -l as -x -d 'The label that moves; whoever names no version gets production.'
complete -c mlctl -n '__mlctl_in promote rollback' -l repository -x -a '(__mlctl_folders)' -d 'Where models lie.'
complete -c mlctl -n '__mlctl_in token' -l tokens -r -F -d 'The file that knows all tokens.'
complete -c mlctl -n '__mlctl_in token' -l model -x -d 'A model that it may use; all by default.'
complete -c mlctl -n '__mlctl_in token' -l admin -d 'It may do everything, loading and unloading of models too.'
complete -c mlctl -n '__mlctl_in token' -l rate -x -d 'Requests per second that it may send; any number if none.'
complete -c mlctl -n '__mlctl_in token' -l expires -x -d 'Days after which it expires; never if none.'
complete -c mlctl -n '__mlctl_in debug' -l rows -x -d 'Rows of the validation split to compare.'
complete -c mlctl -n '__mlctl_in debug' -l tolerance -x -d 'Largest difference, absolute or relative, that is none.'
complete -c mlctl -n '__mlctl_in debug' -l all -d 'List every tensor that both have.'
